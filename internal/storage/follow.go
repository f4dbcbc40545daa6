package storage

import "ferry/internal/metadb"

// Follow forgets what other processes have changed, and wakes the readers that wait for it.
func (s *Storage) Follow(_ *metadb.Tx, c metadb.Changes) error {
	if c.Has(metadb.DamageTopic) {
		s.anyDamage.Store(damageSome)
	}
	for _, name := range c.Names(metadb.UploadTopic) {
		if m, err := parseUploadMessage(name); err == nil {
			s.followUpload(m)
		}
	}
	if !c.Has(metadb.RepositoryTopic) {
		return nil
	}
	changed := map[string]bool{}
	for _, repository := range c.Names(metadb.RepositoryTopic) {
		changed[repository] = true
	}
	s.cache.forgetIf(func(key cacheKey) bool { return c.All || changed[key.repository] })
	if c.All {
		s.watchers.notifyAll()
	}
	s.notifyWatchers(changed)
	return nil
}
