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
	"ferry/internal/control"
	"ferry/internal/management"
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

// errUnknownOutcome is the refusal of a request that the leader may have done, or may still do.
var errUnknownOutcome = control.Refuse(api.CodeUnavailable,
	"the process that does this has begun, and has not answered: it may be done").
	WithHint("look whether it is, before you try again")

// errNoAnswer is the refusal of a request that the leader has not begun, or that changes nothing.
var errNoAnswer = control.Refuse(api.CodeUnavailable, "the process that does this does not answer; try again")

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
		a, err := in.ask(w, r)
		if err != nil {
			in.refuseQuestion(w, err)
			return
		}
		for name, values := range a.Fields {
			w.Header()[name] = values
		}
		w.WriteHeader(a.Status)
		_, _ = w.Write(a.Body) // fails only if the client disconnected
	})
}

// refuseQuestion answers a request that has no answer of the leader.
func (in *instance) refuseQuestion(w http.ResponseWriter, err error) {
	refusal, ok := errors.AsType[*control.Error](err)
	if !ok {
		refusal = errNoAnswer
	}
	if refusal.Code == api.CodeUnavailable {
		in.log.Warn("the process that does mirrors and scrubs does not answer", "err", err)
		w.Header().Set("Retry-After", retryLeaderSec)
	}
	management.Refuse(w, refusal)
}

// ask passes a request on, and waits for its answer. An error is a [*control.Error], or that of [errNoAnswer].
func (in *instance) ask(w http.ResponseWriter, r *http.Request) (*passedAnswer, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxQuestion))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, control.Refuse(api.CodeTooLarge, "the request has more than %d bytes", maxQuestion)
	}
	if err != nil {
		return nil, control.Refuse(api.CodeInvalid, "the request ended early")
	}
	text, err := json.Marshal(passedRequest{
		r.Method, r.URL.RequestURI(), r.Host, r.RemoteAddr, r.Header, body,
	})
	if err != nil {
		return nil, control.Refuse(api.CodeInvalid, "the request cannot be passed on")
	}
	q := metadb.Question{ID: strings.ToLower(rand.Text())}
	q.Text = in.cluster.key.Encrypt(questionUse+q.ID, string(text))
	ctx, stop := context.WithTimeout(r.Context(), askTimeout)
	defer stop()
	err = in.db.Update(ctx, func(tx *metadb.Tx) error { return tx.PutQuestion(q, in.storage.Uptime()) })
	if err != nil && !errors.Is(err, metadb.ErrUncertain) {
		return nil, err
	}
	a, err := in.awaitAnswer(ctx, q.ID)
	taken := in.forgetQuestion(ctx, q.ID)
	switch {
	case err == nil:
		return a, nil
	case taken && !changesNothing(r.Method):
		return nil, fmt.Errorf("%w: %w", errUnknownOutcome, err)
	}
	return nil, err
}

// changesNothing reports whether requests with a method may be served any number of times.
func changesNothing(method string) bool { return method == http.MethodGet || method == http.MethodHead }

// awaitAnswer waits for the answer to a question.
func (in *instance) awaitAnswer(ctx context.Context, id string) (*passedAnswer, error) {
	for {
		answered := in.cluster.answered.Wait()
		sealed, err := metadb.Read(ctx, in.db, func(tx *metadb.Tx) (string, error) { return tx.Answer(id) })
		if err != nil {
			return nil, err
		}
		if sealed != "" {
			return in.openAnswer(id, sealed)
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

// forgetQuestion deletes a question, so that nobody begins with it any more. It reports whether somebody may
// have begun.
func (in *instance) forgetQuestion(ctx context.Context, id string) (taken bool) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
	defer stop()
	err := in.db.Update(ctx, func(tx *metadb.Tx) (err error) {
		taken, err = tx.DeleteQuestion(id)
		return err
	})
	if err != nil {
		in.log.Warn("question to another process is not deleted", "err", err)
	}
	return taken || err != nil
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
			a, err := in.answerTo(ctx, q)
			if a == nil || err != nil {
				return err
			}
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

// answerTo serves the request in a question. A request that changes something is served once: if a process has
// begun with it, nobody knows whether it has ended. The answer is nil if nobody waits for it.
func (in *instance) answerTo(ctx context.Context, q metadb.Question) (*passedAnswer, error) {
	a := &passedAnswer{Fields: http.Header{}}
	r, err := in.openQuestion(ctx, q)
	if err != nil {
		in.log.Error("question of another process cannot be read", "err", err)
		management.Refuse(a, control.Refuse(api.CodeInternal, "internal error"))
		return a, nil
	}
	if err := in.cluster.follower.CatchUp(ctx); err != nil {
		return nil, err
	}
	if !changesNothing(r.Method) {
		if q.Taken {
			a.Fields.Set("Retry-After", retryLeaderSec)
			management.Refuse(a, errUnknownOutcome)
			return a, nil
		}
		err := in.db.Update(ctx, func(tx *metadb.Tx) error { return tx.TakeQuestion(q.ID) })
		if errors.Is(err, metadb.ErrNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
	}
	in.cluster.management.ServeHTTP(a, r)
	a.WriteHeader(http.StatusOK)
	return a, nil
}

// openQuestion returns the request in a question.
func (in *instance) openQuestion(ctx context.Context, q metadb.Question) (*http.Request, error) {
	var p passedRequest
	text, err := in.cluster.key.Decrypt(questionUse+q.ID, q.Text)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, p.Method, p.Target, bytes.NewReader(p.Body))
	if err != nil {
		return nil, err
	}
	r.Header, r.Host, r.RemoteAddr, r.RequestURI = p.Header, p.Host, p.Sender, p.Target
	return r, nil
}
