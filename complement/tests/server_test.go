package tests

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// A server is a container of the image, as Complement would start it.
type server struct {
	t         *testing.T
	name      string
	container string
	base      string
	authority *authority
}

// What is particular about a server. The zero value is Complement's server.
type setup struct {
	// A network of Docker's in which its name is known; Docker's own if empty.
	network string
	// What is added to its configuration.
	settings string
	// Whose certificate it has; a new authority's if nil.
	authority *authority
}

// start runs a server called name, and waits until it answers.
func start(t *testing.T, name string) *server {
	t.Helper()
	return startWith(t, name, setup{})
}

// startWith is start with something particular.
func startWith(t *testing.T, name string, with setup) *server {
	t.Helper()
	image := os.Getenv("COMPLEMENT_BASE_IMAGE")
	if image == "" {
		t.Fatal("COMPLEMENT_BASE_IMAGE names no image: run complement/run own")
	}
	arguments := []string{"create", "--env", "SERVER_NAME=" + name, "--publish-all"}
	if with.network != "" {
		arguments = append(arguments, "--network", with.network, "--network-alias", name)
	}
	id := docker(t, nil, append(arguments, image)...)
	s := &server{t: t, name: name, container: strings.TrimSpace(id), authority: with.authority}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(docker(t, nil, "logs", s.container))
		}
		docker(t, nil, "rm", "--force", "--volumes", s.container)
	})
	if s.authority == nil {
		s.authority = newAuthority(t)
	}
	s.put(s.authority.files)
	if with.settings != "" {
		s.addSettings(with.settings)
	}
	docker(t, nil, "start", s.container)
	s.await()
	return s
}

// addSettings puts the profile with something added to it into the container that does not run.
func (s *server) addSettings(settings string) {
	s.t.Helper()
	s.changeSettings("[server]", strings.TrimLeft(settings+"\n[server]", "\n"))
}

// changeSettings puts the profile with something replaced into the container that does not run.
func (s *server) changeSettings(old, new string) {
	s.t.Helper()
	profile, err := os.ReadFile("../wick.toml")
	must(s.t, err)
	if !strings.Contains(string(profile), old) {
		s.t.Fatalf("the profile has no %q", old)
	}
	s.put(map[string][]byte{"complement/wick.toml": []byte(strings.ReplaceAll(string(profile), old, new))})
}

// put copies files into the container.
func (s *server) put(files map[string][]byte) {
	s.t.Helper()
	var archive bytes.Buffer
	writer := tar.NewWriter(&archive)
	for name, text := range files {
		must(s.t, writer.WriteHeader(&tar.Header{Name: name, Mode: 0o777, Size: int64(len(text))}))
		_, err := writer.Write(text)
		must(s.t, err)
	}
	must(s.t, writer.Close())
	docker(s.t, &archive, "cp", "-", s.container+":/")
}

// restart stops the server in good order, or kills it, and starts it again.
func (s *server) restart(how string) {
	s.t.Helper()
	s.haltUntil(how, time.Now())
}

// haltUntil is restart with a pause: the server is not there at that moment.
func (s *server) haltUntil(how string, moment time.Time) {
	s.t.Helper()
	began := time.Now()
	docker(s.t, nil, how, s.container)
	if took := time.Since(began); took > 8*time.Second {
		s.t.Errorf("%s took %s: the signal to end was not heeded", how, took)
	}
	time.Sleep(time.Until(moment))
	docker(s.t, nil, "start", s.container)
	s.await()
}

// await finds the port, which is another after each start, and waits for an answer there.
func (s *server) await() {
	s.t.Helper()
	s.base = "http://" + s.address("8008")
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		answer, err := http.Get(s.base + "/_matrix/client/versions")
		if err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return
			}
		}
	}
	s.t.Fatal("the server does not answer")
}

// address is where a port of the container is reached from here.
func (s *server) address(port string) string {
	s.t.Helper()
	mapped := docker(s.t, nil, "port", s.container, port)
	first := strings.TrimSpace(strings.Split(mapped, "\n")[0])
	return "127.0.0.1" + first[strings.LastIndex(first, ":"):]
}

// do sends a request and returns the status and the body.
func (s *server) do(method, path, token string, body any) (int, object) {
	s.t.Helper()
	text, err := json.Marshal(body)
	must(s.t, err)
	status, _, answer := s.send(method, path, token, text)
	return status, answer
}

// send is do with the body as it is, and returns the headers too.
func (s *server) send(method, path, token string, body []byte) (int, http.Header, object) {
	s.t.Helper()
	request, err := http.NewRequest(method, s.base+path, bytes.NewReader(body))
	must(s.t, err)
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := http.DefaultClient.Do(request)
	must(s.t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	must(s.t, err)
	var read object
	if err := json.Unmarshal(text, &read); err != nil {
		s.t.Fatalf("%s %s: %d %s", method, path, answer.StatusCode, text)
	}
	return answer.StatusCode, answer.Header, read
}

// must200 sends a request that has to succeed.
func (s *server) must200(method, path, token string, body any) object {
	s.t.Helper()
	status, answer := s.do(method, path, token, body)
	if status != http.StatusOK {
		s.t.Fatalf("%s %s: %d %v", method, path, status, answer)
	}
	return answer
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

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
