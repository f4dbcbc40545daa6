package auth

// Name is whose request it is.
func (g Grant) Name() string { return g.principal.Name }
