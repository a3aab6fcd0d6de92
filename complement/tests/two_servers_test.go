package tests

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"testing"
	"time"
)

// network makes a network of Docker's for one test; processes have the machine's.
func network(t *testing.T) string {
	t.Helper()
	if os.Getenv("WICK_BINARY") != "" {
		return ""
	}
	name := fmt.Sprint("wick-", time.Now().UnixNano())
	docker(t, nil, "network", "create", name)
	t.Cleanup(func() { docker(t, nil, "network", "rm", name) })
	return name
}

// asServer returns a client that goes to servers by their names, as another server does: over TLS to port
// 8448 of a name, whose certificate has to be for that name.
func asServer(authority *authority, servers ...*server) *http.Client {
	client := authority.trust("")
	addresses := map[string]string{}
	for _, server := range servers {
		addresses[server.name+":8448"] = server.host.address("8448")
	}
	client.Transport.(*http.Transport).DialContext = func(ctx context.Context, kind, to string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, kind, addresses[to])
	}
	return client
}

func TestTwoServersInOneNetworkDoNotDisturbEachOther(t *testing.T) {
	with := setup{network: network(t), authority: newAuthority(t)}
	hs1, hs2 := startWith(t, "hs1", with), startWith(t, "hs2", with)
	answersByName(t, asServer(with.authority, hs1, hs2), "hs1", "hs2")

	// The same names on both, and each knows its own alone.
	alice1, alice2 := hs1.register("alice"), hs2.register("alice")
	room1, room2 := alice1.create(), alice2.create()
	watch1, watch2 := alice1.watch(room1), alice2.watch(room2)
	for _, alice := range []*user{alice1, alice2} {
		if id := alice.get("/v3/account/whoami").text("user_id"); id != alice.id() {
			t.Errorf("the token is %q's", id)
		}
	}
	status, answer := hs2.do("GET", "/_matrix/client/v3/account/whoami", alice1.token, nil)
	hs2.expect("a token of hs1", status, answer, 401, "M_UNKNOWN_TOKEN")
	id1 := alice1.schedule(room1, message("from hs1", never))
	id2 := alice2.schedule(room2, message("from hs2", never))
	hs2.mustNot(id1, "send", 404, "M_NOT_FOUND")
	hs1.mustNot(id2, "send", 404, "M_NOT_FOUND")
	path, body := formOf(message("", 0)).write(room1, nextTransaction(), message("elsewhere", never))
	status, answer = alice2.do("PUT", path, alice2.token, body)
	alice2.expect("a room of hs1", status, answer, 403, "M_FORBIDDEN")

	// One goes on while the other is not there.
	hs1.host.halt("kill")
	hs2.manage(id2, "send")
	watch2.must("from hs2")
	hs1.begin()
	answersByName(t, asServer(with.authority, hs1, hs2), "hs1", "hs2")
	hs1.manage(id1, "send")
	watch1.must("from hs1")
	sameAs(t, "sent on hs1", watch1.texts(), []string{"from hs1"})
	sameAs(t, "sent on hs2", watch2.texts(), []string{"from hs2"})
}

// answersByName asks each server for its versions by its name; the certificate has to be for that name.
func answersByName(t *testing.T, client *http.Client, names ...string) {
	t.Helper()
	for _, name := range names {
		at := url.URL{Scheme: "https", Host: name + ":8448", Path: "/_matrix/client/versions"}
		answer, err := client.Get(at.String())
		must(t, err)
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			t.Errorf("%s: status %d", name, answer.StatusCode)
		}
	}
}
