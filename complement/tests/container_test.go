package tests

import (
	"archive/tar"
	"bytes"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// A container of the image.
type container struct {
	t  *testing.T
	id string
}

func newContainer(t *testing.T, name, image, network string) *container {
	t.Helper()
	arguments := []string{"create", "--env", "SERVER_NAME=" + name, "--publish-all"}
	if network != "" {
		arguments = append(arguments, "--network", network, "--network-alias", name)
	}
	c := &container{t: t, id: strings.TrimSpace(docker(t, nil, append(arguments, image)...))}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(docker(t, nil, "logs", c.id))
		}
		docker(t, nil, "rm", "--force", "--volumes", c.id)
	})
	return c
}

func (c *container) put(files map[string][]byte) {
	c.t.Helper()
	var archive bytes.Buffer
	writer := tar.NewWriter(&archive)
	for name, text := range files {
		must(c.t, writer.WriteHeader(&tar.Header{Name: name, Mode: 0o777, Size: int64(len(text))}))
		_, err := writer.Write(text)
		must(c.t, err)
	}
	must(c.t, writer.Close())
	docker(c.t, &archive, "cp", "-", c.id+":/")
}

func (c *container) start() {
	c.t.Helper()
	docker(c.t, nil, "start", c.id)
}

func (c *container) halt(how string) {
	c.t.Helper()
	docker(c.t, nil, how, c.id)
}

func (c *container) address(port string) string {
	c.t.Helper()
	mapped := docker(c.t, nil, "port", c.id, port)
	first := strings.TrimSpace(strings.Split(mapped, "\n")[0])
	return "127.0.0.1" + first[strings.LastIndex(first, ":"):]
}

// docker runs a command and returns its output.
func docker(t *testing.T, input io.Reader, arguments ...string) string {
	t.Helper()
	command := exec.Command("docker", arguments...)
	command.Stdin = input
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("docker %s: %v\n%s", strings.Join(arguments, " "), err, output)
	}
	return string(output)
}
