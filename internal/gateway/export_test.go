package gateway

// Listing returns options of a server whose answers list about n items, and that
// limits no child's rate.
func (o ServerOptions) Listing(n int) ServerOptions {
	o.maxListed, o.unlimited = n, true
	return o
}
