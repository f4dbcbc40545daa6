package metadb

// A Question is a row of questions: one that a process has for the process that does the work of which
// there is only one.
type Question struct {
	ID    string
	Text  string // encrypted
	Taken bool   // a process has begun to do what it asks for
}

func (q *Question) fields() []any { return []any{&q.ID, &q.Text, &q.Taken} }

// PutQuestion asks a question.
func (tx *Tx) PutQuestion(q Question, now Uptime) error {
	tx.Changed(QuestionTopic, "")
	return tx.do("write question", `INSERT INTO questions (id, question, answer, since) VALUES ($1, $2, '', $3)`,
		q.ID, q.Text, now)
}

// Questions returns the first limit questions without an answer.
func (tx *Tx) Questions(limit int) ([]Question, error) {
	return list[Question](tx, "list questions",
		`SELECT id, question, taken <> 0 FROM questions WHERE answer = '' ORDER BY since, id LIMIT $1`, limit)
}

// TakeQuestion marks a question as taken. The error is [ErrNotFound] if nobody waits for its answer.
func (tx *Tx) TakeQuestion(id string) error {
	return tx.one("take question", `UPDATE questions SET taken = 1 WHERE id = $1`, id)
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

// DeleteQuestion deletes a question, and reports whether it was taken.
func (tx *Tx) DeleteQuestion(id string) (taken bool, err error) {
	return get[bool](tx, "delete question", `DELETE FROM questions WHERE id = $1 RETURNING taken <> 0`, id)
}

// DeleteQuestions deletes the questions that were asked before a moment.
func (tx *Tx) DeleteQuestions(before Uptime) error {
	return tx.do("delete questions", `DELETE FROM questions WHERE since < $1`, before)
}
