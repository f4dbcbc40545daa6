package doctor

import (
	"context"
	"time"
)

const diskTimeout = time.Second

// No instance runs on Windows, so there is no data directory.

func checkDirectory(string) Finding              { return skipped("no instance runs on Windows") }
func checkDisk(string) Finding                   { return skipped("no instance runs on Windows") }
func checkWrite(context.Context, string) Finding { return skipped("no instance runs on Windows") }
