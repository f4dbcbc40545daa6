// Image makes the image of Ferry, as an OCI image layout. It needs the programs and their SBOMs
// in bin/, and no Docker daemon. The same programs give the same digests.
//
//	go run ./build/image -version 1.0.0 -commit 0123... -time 1700000000
//
// The SBOMs are referrers of the platforms' manifests, and the provenance is one of the index.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

func main() {
	var b builder
	var at int64
	flag.StringVar(&b.bin, "bin", "bin", "directory of the programs, ferry-linux-ARCH, and their SBOMs, ARCH.cdx.json")
	flag.StringVar(&b.out, "out", filepath.Join("bin", "image"), "the layout; it is replaced")
	flag.StringVar(&b.version, "version", "dev", "version of the program, and the tag of the image")
	flag.StringVar(&b.commit, "commit", "", "commit that the program was built from")
	flag.Int64Var(&at, "time", 0, "time of the commit, in seconds since 1970")
	flag.Parse()
	b.created = time.Unix(at, 0).UTC()
	d, err := b.build()
	if err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
	fmt.Printf("%s: %s %s\n", b.out, b.version, d.Digest)
}
