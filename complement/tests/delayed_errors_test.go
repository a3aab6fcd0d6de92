package tests

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

func TestADelayThatIsNoneIsRefused(t *testing.T) {
	hs1 := start(t, "hs1")
	alice := hs1.register("alice")
	room := alice.create()
	for _, form := range forms {
		refused := func(delay any, errcodes ...string) {
			t.Helper()
			path, body := form.write(room, nextTransaction(), state("key", "no", delay))
			status, answer := alice.do("PUT", path, alice.token, body)
			if status != 400 || !strings.Contains(strings.Join(errcodes, " "), answer.text("errcode")) {
				t.Errorf("%s, %T %v: %d %v instead of %s", form.name, delay, delay, status, answer, errcodes)
			}
		}
		refused(0, "M_INVALID_PARAM")
		if inQuery(form) {
			for _, delay := range []any{-1, 1.5, "", "soon", "1e3", "1000&org.matrix.msc4140.delay=1000"} {
				refused(delay, "M_INVALID_PARAM")
			}
			continue
		}
		for _, delay := range []any{-1, 1.5} {
			// The proposal names no error for these.
			refused(delay, "M_INVALID_PARAM", "M_BAD_JSON")
		}
		for _, delay := range []any{"1000", true, nil, []int{1000}} {
			refused(delay, "M_BAD_JSON")
		}
		path, body := form.write(room, nextTransaction(), state("key", "no", never))
		delete(body, "delay_ms")
		delete(body, "delay")
		status, answer := alice.do("PUT", path, alice.token, body)
		alice.expect(form.name+", none", status, answer, 400, "M_BAD_JSON")
	}
	sameAs(t, "scheduled", alice.pending(), nil)
}

// inQuery reports whether the delay is in the query.
func inQuery(form form) bool {
	return strings.HasPrefix(form.name, "query")
}

func TestADelayThatIsTooLongIsRefusedWithTheLongestOne(t *testing.T) {
	hs1 := startWith(t, "hs1", setup{settings: "[delayed_events]\nmax_delay = \"1m\"\n"})
	alice := hs1.register("alice")
	room := alice.create()
	for _, form := range forms {
		path, body := form.write(room, nextTransaction(), state("key", "no", 60_001))
		status, answer := alice.do("PUT", path, alice.token, body)
		if inQuery(form) {
			alice.expect(form.name, status, answer, 400, "M_UNKNOWN")
			if answer.text("org.matrix.msc4140.errcode") != "M_MAX_DELAY_EXCEEDED" ||
				answer.number("org.matrix.msc4140.max_delay") != 60_000 {
				t.Errorf("%s: %v", form.name, answer)
			}
		} else {
			alice.expect(form.name, status, answer, 403, "M_FORBIDDEN")
		}
		path, body = form.write(room, nextTransaction(), state("key", "yes", 60_000))
		hs1.manage(alice.scheduled(path, body), "cancel")
	}
	limits := alice.get("/v3/capabilities")
	if limits.number("capabilities", "m.delayed_events", "max_delay_ms") != 60_000 {
		t.Errorf("the capabilities are %v", limits)
	}
}

func TestTooManyAreRefusedUntilThereIsRoomForAnother(t *testing.T) {
	hs1 := startWith(t, "hs1", setup{settings: "[delayed_events]\nmax_scheduled = 2\n"})
	alice, bob := hs1.register("alice"), hs1.register("bob")
	room := alice.create()
	bob.join(room)
	alice.schedule(room, message("first", 60_000))
	second := alice.schedule(room, message("second", never))
	for _, form := range forms {
		path, body := form.write(room, nextTransaction(), state("key", "no", never))
		status, header, answer := alice.send("PUT", path, alice.token, asJSON(t, body))
		alice.expect(form.name, status, answer, 429, "M_LIMIT_EXCEEDED")
		if after, err := strconv.Atoi(header.Get("Retry-After")); err != nil || after < 1 || after > 60 {
			t.Errorf("%s: retry after %q", form.name, header.Get("Retry-After"))
		}
	}
	bob.schedule(room, message("another user's", never))
	hs1.manage(second, "restart")
	hs1.manage(second, "send")
	third := alice.schedule(room, message("third", never))
	hs1.manage(third, "cancel")
	alice.schedule(room, message("fourth", never))
}

func TestADelayThatIsNotUnderstoodNeverSendsAtOnce(t *testing.T) {
	hs1 := start(t, "hs1")
	alice := hs1.register("alice")
	room := alice.create()
	watch := alice.watch(room)
	for _, query := range []string{
		"delay=1000", "delay_ms=1000", "future_timeout=1000", "org.matrix.msc4140.delay_ms=1000",
		"org.matrix.msc4140.delay=1000&org.matrix.msc4140.parent_delay_id=x", "org.matrix.msc4140.anything",
	} {
		for _, path := range []string{sendPath(room), statePath(room, "org.example.desk", "key")} {
			status, answer := alice.do("PUT", path+"?"+query, alice.token, object{"body": "no", "value": "no"})
			alice.expect(query, status, answer, 400, "M_INVALID_PARAM")
		}
	}
	hs1.manage(alice.schedule(room, message("after", never)), "send")
	watch.must("after")
	sameAs(t, "sent", watch.texts(), []string{"after"})
	sameAs(t, "scheduled", alice.pending(), nil)
}

func TestWhereAndWhatCanNeverBeSentIsRefusedAtOnce(t *testing.T) {
	hs1 := start(t, "hs1")
	alice, bob := hs1.register("alice"), hs1.register("bob")
	room := alice.create()
	for _, form := range forms {
		for _, room := range []string{room, "!nowhere:hs1"} {
			path, body := form.write(room, nextTransaction(), state("key", "no", never))
			status, answer := bob.do("PUT", path, bob.token, body)
			bob.expect(form.name+", not his room", status, answer, 403, "M_FORBIDDEN")
		}
		path, body := form.write(room, nextTransaction(), later{
			kind: "org.example.desk", state: form.state, delay: never, content: object{"m.will_expire": 10},
		})
		status, answer := alice.do("PUT", path, alice.token, body)
		alice.expect(form.name+", with an expiry", status, answer, 400, "M_INVALID_PARAM")
		status, answer = hs1.do("PUT", path, "", body)
		hs1.expect(form.name+", without a token", status, answer, 401, "M_MISSING_TOKEN")
	}
	for what, event := range map[string]later{
		"a creation":                 {kind: "m.room.create", state: true, content: object{}},
		"a redaction without target": {kind: "m.room.redaction", content: object{}},
		"a redaction as state":       {kind: "m.room.redaction", state: true, content: object{"redacts": "$it"}},
		"a broken number":            {kind: "org.example.desk", state: true, content: object{"value": 1.5}},
		"a number that is too large": {kind: "org.example.desk", content: object{"value": 1 << 60}},
		"a long text":                {kind: "m.room.message", content: object{"body": strings.Repeat("x", 65_536)}},
		"a long key":                 {kind: "org.example.desk", state: true, key: strings.Repeat("k", 256), content: object{}},
	} {
		alice.refusedAsWithoutDelay(room, what, event)
	}
	sameAs(t, "scheduled", alice.pending(), nil)
}

// refusedAsWithoutDelay compares the answer to an event with a delay with that to the same event without.
func (u *user) refusedAsWithoutDelay(room, what string, event later) {
	u.t.Helper()
	event.delay = never
	path, body := formOf(event).write(room, nextTransaction(), event)
	now, refused := u.do("PUT", strings.Split(path, "?")[0], u.token, body)
	if now < 400 || now >= 500 {
		u.t.Fatalf("%s, at once: %d %v", what, now, refused)
	}
	for _, form := range forms {
		if form.state == event.state {
			path, body := form.write(room, nextTransaction(), event)
			status, answer := u.do("PUT", path, u.token, body)
			u.expect(form.name+", "+what, status, answer, now, refused.text("errcode"))
		}
	}
}

func TestUnknownIDsAndActionsAreRefused(t *testing.T) {
	hs1 := start(t, "hs1")
	alice, bob := hs1.register("alice"), hs1.register("bob")
	room := alice.create()
	id := alice.schedule(room, message("hello", never))
	_, expiring := alice.arm(room, 60)
	for _, action := range actions {
		for _, what := range []string{"restart", "send", "cancel"} {
			unknown := []string{"abc", id + "A", id[:len(id)-4] + "AAAA", expiring}
			for _, id := range unknown {
				path, body := action.write(id, what)
				status, answer := hs1.do("POST", path, "", body)
				hs1.expect(action.name+", "+what+" "+id, status, answer, 404, "M_NOT_FOUND")
			}
			path, body := action.write(id, what)
			status, answer := hs1.do("POST", path, bob.token, body)
			hs1.expect("another user's", status, answer, 404, "M_NOT_FOUND")
			status, answer = hs1.do("POST", path, "nobody's", body)
			hs1.expect("a wrong token", status, answer, 401, "M_UNKNOWN_TOKEN")
		}
		for _, id := range []string{id, "abc"} {
			path, body := action.write(id, "prolong")
			status, answer := hs1.do("POST", path, "", body)
			if action.name == "body" {
				hs1.expect("an unknown action", status, answer, 400, "M_INVALID_PARAM")
			} else {
				hs1.expect("an unknown action", status, answer, 404, "M_UNRECOGNIZED")
			}
		}
		path, body := action.write(id, "restart")
		hs1.must200("POST", path, alice.token, body)
	}
	hs1.mustNotExpire("refresh", id)
	if status, answer := hs1.do("POST", unstable+"/delayed_events/"+id, "", object{}); status != 400 {
		t.Errorf("no action: %d %v", status, answer)
	}
	status, answer := alice.do("GET", "/_matrix/client/v1/delayed_events/abc", alice.token, nil)
	alice.expect("an unknown id", status, answer, 404, "M_NOT_FOUND")
	sameAs(t, "scheduled", alice.pending(), []string{id})
}

func TestTheOwnersTokenIsNeededIfSoWished(t *testing.T) {
	hs1 := startWith(t, "hs1", setup{settings: "[delayed_events]\nrequire_auth = true\n"})
	alice, bob := hs1.register("alice"), hs1.register("bob")
	room := alice.create()
	for _, action := range actions {
		id := alice.schedule(room, message("hello", never))
		for _, what := range []string{"restart", "send", "cancel"} {
			path, body := action.write(id, what)
			for token, want := range map[string]refusal{
				"": {401, "M_MISSING_TOKEN"}, "nobody's": {401, "M_UNKNOWN_TOKEN"}, bob.token: {404, "M_NOT_FOUND"},
			} {
				status, answer := hs1.do("POST", path, token, body)
				hs1.expect(action.name+", "+what, status, answer, want.status, want.errcode)
			}
		}
		sameAs(t, "scheduled", alice.pending(), []string{id})
		for _, what := range []string{"restart", "send"} {
			path, body := action.write(id, what)
			hs1.must200("POST", path, alice.token, body)
		}
	}
}

func TestOneMayNotTryTooManyIDsNorKeepOneAliveTooOften(t *testing.T) {
	hs1 := start(t, "hs1")
	alice := hs1.register("alice")
	room := alice.create()
	id, other := alice.schedule(room, message("a", never)), alice.schedule(room, message("b", never))
	hs1.host.halt("stop")
	hs1.changeSettings("per_second = 1000.0, burst = 1000", "per_second = 0.01, burst = 3")
	hs1.begin()
	for _, tried := range []string{"abc", id} {
		path := fmt.Sprintf("/_matrix/client/v1/delayed_events/%s/restart", url.PathEscape(tried))
		for i := 0; i < 3; i++ {
			if status, _, answer := hs1.send("POST", path, "", nil); status != 404 && status != http.StatusOK {
				t.Fatalf("%d: %d %v", i, status, answer)
			}
		}
		status, header, answer := hs1.send("POST", path, "", nil)
		hs1.expect(path, status, answer, 429, "M_LIMIT_EXCEEDED")
		if after, err := strconv.Atoi(header.Get("Retry-After")); err != nil || after < 1 {
			t.Errorf("retry after %q", header.Get("Retry-After"))
		}
	}
	hs1.manage(other, "restart")
}
