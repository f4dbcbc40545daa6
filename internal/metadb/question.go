package metadb

// A Question is a row of questions: one that a process has for the process that does the work of which
// there is only one.
type Question struct {
	ID   string
	Text string // encrypted
}

func (q *Question) fields() []any { return []any{&q.ID, &q.Text} }

// PutQuestion asks a question.
func (tx *Tx) PutQuestion(q Question, now Uptime) error {
	tx.Changed(QuestionTopic, "")
	return tx.do("write question", `INSERT INTO questions (id, question, answer, since) VALUES ($1, $2, '', $3)`,
		q.ID, q.Text, now)
}

// Questions returns the first limit questions without an answer.
func (tx *Tx) Questions(limit int) ([]Question, error) {
	return list[Question](tx, "list questions",
		`SELECT id, question FROM questions WHERE answer = '' ORDER BY since, id LIMIT $1`, limit)
}

// AnswerQuestion writes the answer to a question, if somebody still waits for it.
func (tx *Tx) AnswerQuestion(id, answer string) error {
	tx.Changed(AnswerTopic, "")
	return tx.do("answer question", `UPDATE questions SET answer = $2 WHERE id = $1`, id, answer)
}

// Answer returns the answer to a question; "" if there is none yet.
func (tx *Tx) Answer(id string) (string, error) {
	return get[string](tx, "read answer", `SELECT COALESCE((SELECT answer FROM questions WHERE id = $1), '')`, id)
}

// DeleteQuestion deletes a question.
func (tx *Tx) DeleteQuestion(id string) error {
	return tx.do("delete question", `DELETE FROM questions WHERE id = $1`, id)
}

// DeleteQuestions deletes the questions that were asked before a moment.
func (tx *Tx) DeleteQuestions(before Uptime) error {
	return tx.do("delete questions", `DELETE FROM questions WHERE since < $1`, before)
}
