package config

// Changes returns the names of the settings whose values differ in to.
func (c Config) Changes(to Config) (names []string) {
	now := to.settings()
	for i, s := range c.settings() {
		if s.Default != now[i].Default { // the text of the present value
			names = append(names, s.Name)
		}
	}
	return names
}

// With returns c with the values that some settings have in from.
func (c Config) With(from Config, names []string) Config {
	values := map[string]string{}
	for _, s := range from.settings() {
		values[s.Name] = s.Default
	}
	for _, s := range c.settings() {
		for _, name := range names {
			if s.Name == name {
				_ = s.set(values[name]) // it was set in this form before
			}
		}
	}
	return c
}
