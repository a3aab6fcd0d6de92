package tests

import (
	"net/http"
	"net/url"
	"testing"
	"time"
)

// Long enough that nothing comes of it by itself while a test runs.
const never = 3_600_000

// The forms in docs/concepts/delayed-events.md: each is understood, and all manage the same events.
func TestADelayedEventOfAnyFormIsManagedInAnyForm(t *testing.T) {
	hs1 := start(t, "hs1")
	alice := hs1.register("alice")
	room := alice.create()
	for _, form := range forms {
		for _, action := range actions {
			name := form.name + " and " + action.name
			t.Run(name, func(t *testing.T) {
				event := message(name, never)
				if form.state {
					event = state(name, name, never)
				}
				path, body := form.write(room, nextTransaction(), event)
				alice.within(t).restartAndSend(path, body, action, event)
				path, body = form.write(room, nextTransaction(), event)
				alice.within(t).cancelOne(path, body, action)
			})
		}
	}
	sameAs(t, "still scheduled", alice.pending(), nil)
}

// restartAndSend schedules an event, keeps it alive in each form, and sends it in one.
func (u *user) restartAndSend(path string, body object, by action, event later) {
	u.t.Helper()
	id := u.scheduled(path, body)
	sameAs(u.t, "scheduled", u.pending(), []string{id})
	began := u.delayed(id).number("scheduled_at")
	scheduled := began
	for _, action := range actions {
		path, body := action.write(id, "restart")
		u.must200("POST", path, "", body)
		again := u.delayed(id).number("scheduled_at")
		if again < scheduled {
			u.t.Errorf("restarted at %d, before %d", again, scheduled)
		}
		scheduled = again
	}
	path, request := by.write(id, "send")
	u.must200("POST", path, "", request)
	sent := u.delayed(id)
	if sent.number("finalised_ts") < began || sent.has("error") {
		u.t.Errorf("sent, it is %v", sent)
	}
	// It is in the room when the answer comes.
	in := u.event(sent.text("room_id"), sent.text("event_id"))
	if in.text("type") != event.kind || textOf(in) != textOf(object{"content": map[string]any(event.content)}) ||
		in.has("state_key") != event.state || in.text("state_key") != event.key {
		u.t.Errorf("what was sent is %v", in)
	}
	u.must200("POST", path, "", request)
	for what, want := range map[string]refusal{"cancel": {409, by.conflict}, "restart": {404, "M_NOT_FOUND"}} {
		path, body := by.write(id, what)
		status, answer := u.do("POST", path, "", body)
		u.expect(what+" after send", status, answer, want.status, want.errcode)
	}
}

// cancelOne schedules an event and cancels it.
func (u *user) cancelOne(path string, body object, by action) {
	u.t.Helper()
	id := u.scheduled(path, body)
	for i := 0; i < 2; i++ {
		path, request := by.write(id, "cancel")
		u.must200("POST", path, "", request)
	}
	if cancelled := u.delayed(id); cancelled.number("finalised_ts") == 0 || cancelled.has("error") || cancelled.has("event_id") {
		u.t.Errorf("cancelled, it is %v", cancelled)
	}
	for _, what := range []string{"send", "restart"} {
		path, body := by.write(id, what)
		status, answer := u.do("POST", path, "", body)
		u.expect(what+" after cancel", status, answer, 409, by.conflict)
	}
}

func TestADelayedEventIsSentOnceAndNotTooEarly(t *testing.T) {
	hs1 := start(t, "hs1")
	alice := hs1.register("alice")
	room := alice.create()
	for _, form := range forms {
		t.Run(form.name, func(t *testing.T) {
			alice := alice.within(t)
			watch := alice.watch(room)
			event := message("one", 400)
			if form.state {
				event = state(form.name, "one", 400)
			}
			path, body := form.write(room, nextTransaction(), event)
			id := alice.scheduled(path, body)
			due := alice.delayed(id).number("scheduled_at") + 400
			// What comes after it shows that there is no second one.
			alice.schedule(room, message("two", 900))
			sent := watch.must("one")
			watch.must("two")
			sameAs(t, "sent", watch.texts(), []string{"one", "two"})
			if at := sent.number("origin_server_ts"); at < due || at > due+2_000 {
				t.Errorf("due at %d, it was sent at %d", due, at)
			}
			if sent.text("sender") != "@alice:hs1" || alice.delayed(id).text("event_id") != sent.text("event_id") {
				t.Errorf("%v became %v", alice.delayed(id), sent)
			}
		})
	}
}

func TestARestartBeginsTheWholeDelayAnew(t *testing.T) {
	hs1 := start(t, "hs1")
	alice := hs1.register("alice")
	room := alice.create()
	watch := alice.watch(room)
	id := alice.schedule(room, message("left", 1_500))
	// Kept alive for longer than the delay is.
	for end := time.Now().Add(2_500 * time.Millisecond); time.Now().Before(end); {
		watch.more(500 * time.Millisecond)
		hs1.manage(id, "restart")
	}
	sameAs(t, "sent", watch.texts(), []string{})
	due := alice.delayed(id).number("scheduled_at") + 1_500
	if at := watch.must("left").number("origin_server_ts"); at < due {
		t.Errorf("due at %d, it was sent at %d", due, at)
	}
	hs1.mustNot(id, "restart", 404, "M_NOT_FOUND")
}

func TestOnlyTheSenderSeesTheDelayIDOfWhatWasSent(t *testing.T) {
	hs1 := start(t, "hs1")
	alice, bob := hs1.register("alice"), hs1.register("bob")
	room := alice.create()
	bob.join(room)
	watches := map[*user]*watch{alice: alice.watch(room), bob: bob.watch(room)}
	id := alice.schedule(room, message("hello", never))
	hs1.manage(id, "send")
	for reader, watch := range watches {
		want := ""
		if reader == alice {
			want = id
		}
		synced := watch.must("hello")
		seen := map[string]object{"sync": synced, "event": reader.event(room, synced.text("event_id"))}
		for _, event := range reader.get("/v3/rooms/" + url.PathEscape(room) + "/messages?dir=b").list("chunk") {
			if textOf(event) == "hello" {
				seen["messages"] = event
			}
		}
		if len(seen) != 3 {
			t.Error("it is not in /messages")
		}
		for where, event := range seen {
			for _, key := range []string{"delay_id", "org.matrix.msc4140.delay_id"} {
				if got := event.text("unsigned", key); got != want {
					t.Errorf("in /%s, %s is %q instead of %q", where, key, got, want)
				}
			}
		}
	}
}

func TestTheListIsOnesOwnTheNextOneFirst(t *testing.T) {
	hs1 := start(t, "hs1")
	alice, bob := hs1.register("alice"), hs1.register("bob")
	room := alice.create()
	sameAs(t, "at first", alice.pending(), nil)
	second := alice.schedule(room, message("second", never+1_000))
	first := alice.schedule(room, state("first", "here", never))
	for _, prefix := range []string{"/_matrix/client/v1", unstable} {
		path := prefix + "/delayed_events"
		listed := alice.must200("GET", path, alice.token, nil).list("delayed_events")
		if len(listed) != 2 || listed[0].text("delay_id") != first || listed[1].text("delay_id") != second {
			t.Fatalf("%s: %v", path, listed)
		}
		alice.looksScheduled(listed[0], room, state("first", "here", never))
		alice.looksScheduled(listed[1], room, message("second", never+1_000))
		alice.looksScheduled(alice.must200("GET", path+"/"+first, alice.token, nil), room, state("first", "here", never))
		status, answer := bob.do("GET", path+"/"+first, bob.token, nil)
		bob.expect("another user's", status, answer, 404, "M_NOT_FOUND")
		for _, path := range []string{path, path + "/" + first} {
			status, answer := hs1.do("GET", path, "", nil)
			hs1.expect("without a token", status, answer, 401, "M_MISSING_TOKEN")
		}
	}
	sameAs(t, "bob's", bob.pending(), nil)
	hs1.manage(second, "cancel")
	sameAs(t, "after one was cancelled", alice.pending(), []string{first})
}

// looksScheduled compares an entry of the list with what it is of, in the present names and the earlier ones.
func (u *user) looksScheduled(entry object, room string, event later) {
	u.t.Helper()
	want := object{
		"delay_id": entry["delay_id"], "room_id": room, "type": event.kind, "content": event.content,
		"delay_ms": event.delay, "delay": event.delay, "scheduled_at": entry["scheduled_at"],
		"running_since": entry["scheduled_at"], "delayed_since_ts": entry["scheduled_at"],
	}
	if event.state {
		want["state_key"] = event.key
	}
	if got := string(asJSON(u.t, entry)); got != string(asJSON(u.t, want)) {
		u.t.Errorf("%s instead of %s", got, asJSON(u.t, want))
	}
	if ago := time.Now().UnixMilli() - entry.number("scheduled_at"); ago < -1 || ago > 60_000 {
		u.t.Errorf("scheduled %d ms ago", ago)
	}
}

func TestTheServerSaysThatItHasDelayedEvents(t *testing.T) {
	hs1 := start(t, "hs1")
	alice := hs1.register("alice")
	features := alice.get("/versions")
	for _, flag := range []string{"org.matrix.msc4140", "org.matrix.msc4140.stable"} {
		if features.at("unstable_features", flag) != true {
			t.Errorf("%s is %v", flag, features.at("unstable_features", flag))
		}
	}
	for _, name := range []string{"m.delayed_events", "org.matrix.msc4140.delayed_events"} {
		limits := alice.get("/v3/capabilities")
		if limits.number("capabilities", name, "max_delay_ms") != 86_400_000 ||
			limits.number("capabilities", name, "max_scheduled") != 100 {
			t.Errorf("%s is %v", name, limits.at("capabilities", name))
		}
	}
}

func TestTheSameTransactionIsTheSameDelayedEvent(t *testing.T) {
	hs1 := start(t, "hs1")
	alice := hs1.register("alice")
	phone := alice.logIn()
	room := alice.create()
	for _, form := range forms {
		if form.name == "query of state" {
			continue
		}
		t.Run(form.name, func(t *testing.T) {
			alice, phone := alice.within(t), phone.within(t)
			path, body := form.write(room, nextTransaction(), message("one", never))
			id := alice.scheduled(path, body)
			// Whatever the body is, even none.
			for _, body := range [][]byte{asJSON(t, body), []byte("{}"), nil} {
				status, _, answer := alice.send("PUT", path, alice.token, body)
				if status != http.StatusOK || answer.text("delay_id") != id {
					t.Errorf("%q: %d %v", body, status, answer)
				}
			}
			sameAs(t, "scheduled", alice.pending(), []string{id})
			other := phone.scheduled(path, body)
			if other == id {
				t.Error("another device's transaction is the same")
			}
			alice.manage(other, "cancel")
			alice.manage(id, "send")
			if again := alice.scheduled(path, body); again != id {
				t.Error("after it was sent there was another")
			}
			sameAs(t, "scheduled at the end", alice.pending(), nil)
		})
	}
	path, body := formOf(state("k", "v", never)).write(room, "", state("k", "v", never))
	if alice.scheduled(path, body) == alice.scheduled(path, body) {
		t.Error("what has no transaction id is one event")
	}
}
