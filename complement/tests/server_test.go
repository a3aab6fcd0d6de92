package tests

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// A server, as Complement would start it.
type server struct {
	t         *testing.T
	name      string
	base      string
	host      host
	authority *authority
}

// What a server runs in: a container of the image, or a process of its own.
type host interface {
	// put writes files, by their paths in the image, while the server does not run.
	put(files map[string][]byte)
	// start runs the server; it need not answer yet when this returns.
	start()
	// halt stops the server in good order ("stop"), or kills it ("kill"), and waits until it is gone.
	halt(how string)
	// address is where a port of the server is reached from here.
	address(port string) string
}

// What is particular about a server. The zero value is Complement's server.
type setup struct {
	// A network of Docker's in which its name is known; Docker's own if empty.
	network string
	// What is added to its configuration.
	settings string
	// The authority that signs its certificate; a new one if nil.
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
	s := &server{t: t, name: name, host: newHost(t, name, with.network), authority: with.authority}
	if s.authority == nil {
		s.authority = newAuthority(t)
	}
	s.host.put(s.authority.files)
	s.addSettings(with.settings)
	s.begin()
	return s
}

// newHost is a process of WICK_BINARY or PATCHED_BINARY if one is set, and else a container of
// COMPLEMENT_BASE_IMAGE.
func newHost(t *testing.T, name, network string) host {
	t.Helper()
	for _, variable := range []string{"WICK_BINARY", "PATCHED_BINARY"} {
		if binary := os.Getenv(variable); binary != "" {
			return newProcess(t, name, binary)
		}
	}
	image := os.Getenv("COMPLEMENT_BASE_IMAGE")
	if image == "" {
		t.Fatal("COMPLEMENT_BASE_IMAGE names no image and WICK_BINARY no binary: run complement/run own")
	}
	return newContainer(t, name, image, network)
}

// addSettings configures the server that does not run: the profile with something added to it.
func (s *server) addSettings(settings string) {
	s.t.Helper()
	if settings == "" {
		s.changeSettings("", "")
		return
	}
	s.changeSettings("[server]", strings.TrimLeft(settings+"\n[server]", "\n"))
}

// changeSettings configures the server that does not run: the profile with something replaced.
func (s *server) changeSettings(old, new string) {
	s.t.Helper()
	name := "../wick.toml"
	if os.Getenv("PATCHED_BINARY") != "" {
		name = "../continuwuity.toml"
	}
	profile, err := os.ReadFile(name)
	must(s.t, err)
	if !strings.Contains(string(profile), old) {
		s.t.Fatalf("the profile has no %q", old)
	}
	if old != "" {
		profile = []byte(strings.ReplaceAll(string(profile), old, new))
	}
	s.host.put(map[string][]byte{"complement/wick.toml": profile})
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
	s.host.halt(how)
	if took := time.Since(began); took > 8*time.Second {
		s.t.Errorf("%s took %s: the signal to end was not heeded", how, took)
	}
	time.Sleep(time.Until(moment))
	s.begin()
}

// begin starts the server, whose port is another after each start, and waits for an answer there.
func (s *server) begin() {
	s.t.Helper()
	s.host.start()
	s.base = "http://" + s.host.address("8008")
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

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
