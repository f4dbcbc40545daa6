package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"ferry/internal/api"
	"ferry/internal/metadb"
	"ferry/internal/retry"
)

// The state of the runs of mirror rules and of scrubs is in the memory of the process that
// does them. Other processes of the root pass requests about them on to that one, through the database:
// processes need no addresses of each other, and the state has one owner.

const (
	maxQuestion    = 1 << 20          // bytes of a request's body
	maxAnswer      = 4 << 20          // bytes of an answer's body
	askTimeout     = 15 * time.Second // for an answer
	askPause       = time.Second      // between two looks for an answer that is not announced
	answersAtOnce  = 8
	questionUse    = "question" // what its encryption is bound to
	answerUse      = "answer"
	retryLeaderSec = "5"
)

// A passedRequest is a request of the management API, as another process got it.
type passedRequest struct {
	Method, Target, Host, Sender string
	Header                       http.Header
	Body                         []byte
}

// A passedAnswer is the answer to a passedRequest. It implements [http.ResponseWriter].
type passedAnswer struct {
	Status int
	Fields http.Header
	Body   []byte
}

// Header implements [http.ResponseWriter].
func (a *passedAnswer) Header() http.Header { return a.Fields }

// WriteHeader implements [http.ResponseWriter].
func (a *passedAnswer) WriteHeader(status int) {
	if a.Status == 0 && status >= 200 {
		a.Status = status
	}
}

// Write implements [http.ResponseWriter].
func (a *passedAnswer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	if len(a.Body)+len(p) > maxAnswer {
		return 0, errors.New("the answer is too large for another process")
	}
	a.Body = append(a.Body, p...)
	return len(p), nil
}

// isForLeader reports whether only the leader can answer requests for a path.
func isForLeader(path string) bool {
	rest, ok := strings.CutPrefix(path, api.Root+"/")
	first, _, _ := strings.Cut(rest, "/")
	return ok && (first == "mirror-rules" || first == "scrub")
}

// askLeader returns h for every process: requests that only the leader can answer are passed on to it, which
// checks the operator's rights. h is for operators that this process has admitted, because a question costs two
// writes of the database.
func (in *instance) askLeader(h http.Handler) http.Handler {
	c := in.cluster
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isForLeader(r.URL.Path) || c.isLeader() {
			h.ServeHTTP(w, r)
			return
		}
		a, err := in.ask(r)
		if err != nil {
			in.log.Warn("the process that mirrors and scrubs does not answer", "err", err)
			w.Header().Set("Retry-After", retryLeaderSec)
			writeError(w, http.StatusServiceUnavailable, "UNAVAILABLE",
				"the process that does this does not answer; try again")
			return
		}
		for name, values := range a.Fields {
			w.Header()[name] = values
		}
		w.WriteHeader(a.Status)
		_, _ = w.Write(a.Body) // fails only if the client disconnected
	})
}

// ask passes a request on, and waits for its answer.
func (in *instance) ask(r *http.Request) (*passedAnswer, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxQuestion+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxQuestion {
		return nil, fmt.Errorf("the request has more than %d bytes", maxQuestion)
	}
	text, err := json.Marshal(passedRequest{
		r.Method, r.URL.RequestURI(), r.Host, r.RemoteAddr, r.Header, body,
	})
	if err != nil {
		return nil, err
	}
	q := metadb.Question{ID: strings.ToLower(rand.Text())}
	q.Text = in.cluster.key.Encrypt(questionUse+q.ID, string(text))
	ctx, stop := context.WithTimeout(r.Context(), askTimeout)
	defer stop()
	err = in.db.Update(ctx, func(tx *metadb.Tx) error { return tx.PutQuestion(q, in.storage.Uptime()) })
	if err != nil {
		return nil, err
	}
	defer in.forgetQuestion(ctx, q.ID)
	for {
		answered := in.cluster.answered.Wait()
		sealed, err := metadb.Read(ctx, in.db, func(tx *metadb.Tx) (string, error) { return tx.Answer(q.ID) })
		if err != nil {
			return nil, err
		}
		if sealed != "" {
			return in.openAnswer(q.ID, sealed)
		}
		if err := retry.Sleep(ctx, askPause, answered); err != nil {
			return nil, err
		}
	}
}

func (in *instance) openAnswer(id, sealed string) (*passedAnswer, error) {
	text, err := in.cluster.key.Decrypt(answerUse+id, sealed)
	if err != nil {
		return nil, err
	}
	a := &passedAnswer{}
	return a, json.Unmarshal([]byte(text), a)
}

func (in *instance) forgetQuestion(ctx context.Context, id string) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
	defer stop()
	err := in.db.Update(ctx, func(tx *metadb.Tx) error { return tx.DeleteQuestion(id) })
	if err != nil {
		in.log.Warn("question to another process is not deleted", "err", err)
	}
}

// answer answers the questions of other processes until ctx ends.
func (in *instance) answer(ctx context.Context) error {
	for ctx.Err() == nil {
		asked := in.cluster.asked.Wait()
		if err := in.answerAll(ctx); err != nil && ctx.Err() == nil {
			in.log.Error("questions of other processes are not answered", "err", err)
		}
		_ = retry.Sleep(ctx, askPause, asked)
	}
	return nil
}

// answerAll answers the questions that wait now. Those that are too old have nobody who waits.
func (in *instance) answerAll(ctx context.Context) error {
	all, err := metadb.Read(ctx, in.db, func(tx *metadb.Tx) ([]metadb.Question, error) {
		return tx.Questions(10 * answersAtOnce)
	})
	if err != nil || len(all) == 0 {
		return err
	}
	var work errgroup.Group
	work.SetLimit(answersAtOnce)
	for _, q := range all {
		work.Go(func() error {
			a := in.answerTo(ctx, q)
			text, err := json.Marshal(a)
			if err != nil {
				return err
			}
			sealed := in.cluster.key.Encrypt(answerUse+q.ID, string(text))
			return in.db.Update(ctx, func(tx *metadb.Tx) error {
				if err := tx.DeleteQuestions(in.storage.Uptime().Add(-10 * askTimeout)); err != nil {
					return err
				}
				return tx.AnswerQuestion(q.ID, sealed)
			})
		})
	}
	return work.Wait()
}

// answerTo serves the request in a question.
func (in *instance) answerTo(ctx context.Context, q metadb.Question) *passedAnswer {
	a := &passedAnswer{Fields: http.Header{}}
	var p passedRequest
	text, err := in.cluster.key.Decrypt(questionUse+q.ID, q.Text)
	if err == nil {
		err = json.Unmarshal([]byte(text), &p)
	}
	var r *http.Request
	if err == nil {
		r, err = http.NewRequestWithContext(ctx, p.Method, p.Target, bytes.NewReader(p.Body))
	}
	if err != nil {
		in.log.Error("question of another process cannot be read", "err", err)
		writeError(a, http.StatusInternalServerError, "UNKNOWN", "internal error")
		return a
	}
	r.Header, r.Host, r.RemoteAddr, r.RequestURI = p.Header, p.Host, p.Sender, p.Target
	_ = in.cluster.follower.CatchUp(ctx) // the follower logs that it fails
	in.cluster.management.ServeHTTP(a, r)
	a.WriteHeader(http.StatusOK)
	return a
}
