package tests

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"wick.invalid/complement/certificate"
)

// A process of the binary, with a folder in place of the image.
type process struct {
	t      *testing.T
	name   string
	binary string
	folder string
	// Where it listens, by the port in the image.
	listens map[string]string
	command *exec.Cmd
	log     bytes.Buffer
}

func newProcess(t *testing.T, name, binary string) *process {
	t.Helper()
	p := &process{t: t, name: name, binary: binary, folder: t.TempDir(), listens: map[string]string{}}
	for _, port := range []string{"8008", "8448"} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		p.listens[port] = listener.Addr().String()
		must(t, listener.Close())
	}
	t.Cleanup(func() {
		p.halt("kill")
		if t.Failed() {
			t.Log(p.log.String())
		}
	})
	return p
}

// put writes files below the folder, and what names places in the image with the places here.
func (p *process) put(files map[string][]byte) {
	p.t.Helper()
	places := []string{`"/complement/`, `"` + p.folder + "/complement/", `"/data"`, `"` + p.folder + `/data"`}
	for port, address := range p.listens {
		places = append(places, "0.0.0.0:"+port, address, "port = "+port, "port = "+address[strings.LastIndex(address, ":")+1:])
	}
	for name, text := range files {
		path := filepath.Join(p.folder, name)
		must(p.t, os.MkdirAll(filepath.Dir(path), 0o700))
		here := strings.NewReplacer(places...).Replace(string(text))
		must(p.t, os.WriteFile(path, []byte(here), 0o600))
	}
}

func (p *process) start() {
	p.t.Helper()
	must(p.t, certificate.Issue(filepath.Join(p.folder, "complement"), p.name))
	p.command = exec.Command(p.binary, "--config", filepath.Join(p.folder, "complement/wick.toml"))
	p.command.Env = append(os.Environ(), "SERVER_NAME="+p.name, "CONTINUWUITY_SERVER_NAME="+p.name)
	p.command.Stdout, p.command.Stderr = &p.log, &p.log
	must(p.t, p.command.Start())
}

func (p *process) halt(how string) {
	p.t.Helper()
	if p.command == nil {
		return
	}
	signal := map[string]os.Signal{"stop": syscall.SIGTERM, "kill": syscall.SIGKILL}[how]
	must(p.t, p.command.Process.Signal(signal))
	// The error tells how it was ended, which is known.
	_ = p.command.Wait()
	p.command = nil
}

func (p *process) address(port string) string {
	return p.listens[port]
}
