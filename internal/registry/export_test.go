package registry

import "net/http"

// Answering returns the repositories that may answer a request, for tests.
func Answering(names MirrorNames, r *http.Request) ([]string, error) {
	q, err := parse(r)
	if err == nil {
		err = (&Registry{mirrors: names}).setAlternatives(q)
	}
	if err != nil {
		return nil, err
	}
	var all []string
	for _, n := range q.need {
		all = append(all, n.Repository)
	}
	return all, nil
}
