package logs

import (
	"path/filepath"
	"strings"
)

// baseName is what a file keeps when it is renamed.
func baseName(path string) string {
	base, _, _ := strings.Cut(filepath.Base(path), ".native.")
	return base
}
