package gateway

// Listing returns options of a server whose answers list about n items.
func (o ServerOptions) Listing(n int) ServerOptions {
	o.maxListed = n
	return o
}
