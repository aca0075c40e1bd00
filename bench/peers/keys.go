package main

import (
	"fmt"
	"os/exec"
	"strings"
)

// importKey gives the relay the client's key by its own command, since the
// form of the key file is the relay's affair.
func importKey(e *env, binary, config string) error {
	cmd := exec.Command(binary, "keys", "import", "--config", config, "--name", "bench", "--tenant", "bench", "-")
	cmd.Stdin = strings.NewReader(clientKey + "\n")
	cmd.Dir = e.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("import the client's key: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
