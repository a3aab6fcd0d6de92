package tests

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
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
	container string
	base      string
	authority *x509.Certificate
}

// start runs a container called name in the network of tests, and waits until it answers.
func start(t *testing.T, name string) *server {
	t.Helper()
	image := os.Getenv("COMPLEMENT_BASE_IMAGE")
	if image == "" {
		t.Fatal("COMPLEMENT_BASE_IMAGE names no image: run complement/run own")
	}
	id := docker(t, nil, "create", "--env", "SERVER_NAME="+name, "--publish-all", image)
	s := &server{t: t, container: strings.TrimSpace(id)}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(docker(t, nil, "logs", s.container))
		}
		docker(t, nil, "rm", "--force", s.container)
	})
	s.giveAuthority()
	docker(t, nil, "start", s.container)
	s.await()
	return s
}

// restart stops the server in good order, or kills it, and starts it again.
func (s *server) restart(how string) {
	s.t.Helper()
	began := time.Now()
	docker(s.t, nil, how, s.container)
	if took := time.Since(began); took > 8*time.Second {
		s.t.Errorf("%s took %s: the signal to end was not heeded", how, took)
	}
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

// giveAuthority puts a new authority into the container that is not started yet, in the forms that
// Complement uses: a 4096 bit RSA key, PKCS#1.
func (s *server) giveAuthority() {
	s.t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 4096)
	must(s.t, err)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		Subject: pkix.Name{
			Organization: []string{"Tests"}, Country: []string{"DE"}, Locality: []string{"Köln"},
			StreetAddress: []string{"Teststraße 1"}, CommonName: "Test Authority",
		},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(s.t, err)
	s.authority, err = x509.ParseCertificate(der)
	must(s.t, err)
	var archive bytes.Buffer
	files := tar.NewWriter(&archive)
	for name, block := range map[string]*pem.Block{
		"complement/ca/ca.crt": {Type: "CERTIFICATE", Bytes: der},
		"complement/ca/ca.key": {Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)},
	} {
		text := pem.EncodeToMemory(block)
		must(s.t, files.WriteHeader(&tar.Header{Name: name, Mode: 0o777, Size: int64(len(text))}))
		_, err := files.Write(text)
		must(s.t, err)
	}
	must(s.t, files.Close())
	docker(s.t, &archive, "cp", "-", s.container+":/")
}

// trust returns a client that trusts the authority and nobody else, and takes the server for name.
func (s *server) trust(name string) *http.Client {
	roots := x509.NewCertPool()
	roots.AddCert(s.authority)
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: name}}}
}

// do sends a request and returns the status and the body.
func (s *server) do(method, path, token string, body any) (int, object) {
	s.t.Helper()
	text, err := json.Marshal(body)
	must(s.t, err)
	request, err := http.NewRequest(method, s.base+path, bytes.NewReader(text))
	must(s.t, err)
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := http.DefaultClient.Do(request)
	must(s.t, err)
	defer answer.Body.Close()
	text, err = io.ReadAll(answer.Body)
	must(s.t, err)
	var read object
	if err := json.Unmarshal(text, &read); err != nil {
		s.t.Fatalf("%s %s: %d %s", method, path, answer.StatusCode, text)
	}
	return answer.StatusCode, read
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

// An object is one of JSON.
type object map[string]any

// at follows a path of keys; nil if it ends early.
func (o object) at(path ...string) any {
	var value any = map[string]any(o)
	for _, key := range path {
		inner, ok := value.(map[string]any)
		if !ok {
			return nil
		}
		value = inner[key]
	}
	return value
}

// text follows a path of keys to a text; empty if there is none.
func (o object) text(path ...string) string {
	if value := o.at(path...); value != nil {
		return fmt.Sprint(value)
	}
	return ""
}
