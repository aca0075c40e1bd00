package top

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"
)

const (
	enter = "\x1b[?1049h\x1b[?25l\x1b[?7l" // the other screen, no cursor, no wrapping
	leave = "\x1b[?7h\x1b[?25h\x1b[?1049l"
)

// watch redraws the terminal until the user ends it.
func (o *options) watch(ctx context.Context, c *client, screen *os.File) error {
	in := int(os.Stdin.Fd())
	before, err := term.MakeRaw(in)
	if err != nil {
		return fmt.Errorf("set up the terminal: %w", err)
	}
	defer func() { // also when something below panics
		_, _ = screen.WriteString(leave)
		_ = term.Restore(in, before)
	}()
	if _, err := screen.WriteString(enter); err != nil {
		return err
	}
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	keys := make(chan rune)
	go readKeys(os.Stdin, keys) // ends with the process
	size := func() (int, int) {
		width, height, err := term.GetSize(int(screen.Fd()))
		if err != nil {
			return 80, 24
		}
		return width, height
	}
	return o.loop(ctx, c, screen, size, keys, resized)
}

// loop draws on out what c tells, until a key, ctx or the relay ends it.
func (o *options) loop(ctx context.Context, c *client, out io.Writer, size func() (int, int), keys <-chan rune, resized <-chan os.Signal) error {
	ctx, cancel := context.WithCancel(ctx)
	events, ended := make(chan event), make(chan error, 1)
	go func() { ended <- c.follow(ctx, events) }()
	followed := false
	defer func() {
		cancel()
		if !followed {
			<-ended
		}
	}()
	_, none := os.LookupEnv("NO_COLOR")
	colour := (!none || os.Getenv("NO_COLOR") == "") && os.Getenv("TERM") != "dumb"
	b := new(board)
	var drawn time.Time
	draw := func() error {
		width, height := size()
		drawn = time.Now()
		return paint(out, render(b, width, height, colour), height)
	}
	if err := draw(); err != nil {
		return err
	}
	for {
		wanted := true
		select {
		case e := <-events:
			if err := b.take(e); err != nil {
				return fmt.Errorf("read an event: %w", err)
			}
			// The relay's seconds are not quite ours.
			wanted = time.Since(drawn) >= o.interval-100*time.Millisecond || e.name != "tick"
		case k := <-keys:
			if b.key(k) {
				return nil
			}
		case <-resized:
		case err := <-ended:
			followed = true
			if errors.Is(err, context.Canceled) {
				return nil
			}
			return fmt.Errorf("ask the relay: %w", err)
		case <-ctx.Done():
			return nil
		}
		if wanted {
			if err := draw(); err != nil {
				return err
			}
		}
	}
}

// paint writes a picture over the one of before, without a flicker.
func paint(out io.Writer, picture string, height int) error {
	lines := strings.Split(strings.TrimSuffix(picture, "\n"), "\n")
	var b strings.Builder
	b.WriteString("\x1b[H")
	for i, l := range lines[:min(len(lines), height)] {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(l)
		b.WriteString("\x1b[K")
	}
	b.WriteString("\x1b[J")
	_, err := io.WriteString(out, b.String())
	return err
}

// readKeys sends keys, and none of those that the terminal sends as an escape
// and more, such as arrows.
func readKeys(in io.Reader, to chan<- rune) {
	r := bufio.NewReader(in)
	for {
		k, _, err := r.ReadRune()
		if err != nil {
			return
		}
		if k == 0x1b && r.Buffered() > 0 {
			_, _ = r.Discard(r.Buffered())
			continue
		}
		to <- k
	}
}
