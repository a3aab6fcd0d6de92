package tests

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"
)

func statePath(room, kind, key string) string {
	return fmt.Sprintf("/_matrix/client/v3/rooms/%s/state/%s/%s", url.PathEscape(room), kind, url.PathEscape(key))
}

// set sends a state event at once, and returns its id.
func (u *user) set(room, kind, key string, content object) string {
	u.t.Helper()
	return u.must200("PUT", statePath(room, kind, key), u.token, content).text("event_id")
}

func TestTheRoomsRulesAreAskedWhenItIsSent(t *testing.T) {
	hs1 := start(t, "hs1")
	alice, bob := hs1.register("alice"), hs1.register("bob")
	room := alice.create()
	bob.join(room)
	watch := alice.watch(room)
	due := bob.schedule(room, message("when due", 700))
	asked := bob.schedule(room, message("when asked", never))
	alice.member(room, "ban", bob)

	hs1.mustNot(asked, "send", 403, "M_FORBIDDEN")
	sameAs(t, "scheduled after a refusal", bob.pending(), []string{due, asked})
	alice.schedule(room, message("after", 1_400))
	watch.must("after")
	sameAs(t, "sent", watch.texts(), []string{"after"})
	failed := bob.delayed(due)
	if failed.text("error", "errcode") != "M_FORBIDDEN" || failed.text("finalised", "error", "errcode") != "M_FORBIDDEN" ||
		failed.number("finalised_ts") == 0 || failed.has("event_id") {
		t.Errorf("refused, it is %v", failed)
	}
	hs1.manage(due, "cancel")
	hs1.mustContradict(due, "send")
	hs1.mustContradict(due, "restart")

	alice.member(room, "unban", bob)
	bob.join(room)
	hs1.manage(asked, "send")
	watch.must("when asked")
	sameAs(t, "sent at the end", watch.texts(), []string{"after", "when asked"})
}

func TestStateOfOneKeyIsSentAsOftenAsItWasScheduled(t *testing.T) {
	hs1 := start(t, "hs1")
	alice, bob := hs1.register("alice"), hs1.register("bob")
	room := alice.create()
	bob.join(room)
	alice.must200("PUT", statePath(room, "m.room.power_levels", ""), alice.token, object{
		"users": object{"@alice:hs1": 100}, "state_default": 0,
	})
	watch := alice.watch(room)
	first := alice.schedule(room, state("desk", "first", 600))
	alice.schedule(room, state("desk", "second", 900))
	alice.schedule(room, state("desk", "third", 1_200))
	// Newer state, also by another user, changes nothing.
	bob.set(room, "org.example.desk", "desk", object{"value": "at once"})
	watch.must("third")
	sameAs(t, "sent", watch.texts(), []string{"at once", "first", "second", "third"})
	if now := alice.get("/v3/rooms/" + url.PathEscape(room) + "/state/org.example.desk/desk"); now.text("value") != "third" {
		t.Errorf("the state is %v", now)
	}
	// What is the case already makes no new event.
	present := alice.delayed(alice.schedule(room, state("desk", "third", never)))
	hs1.manage(present.text("delay_id"), "send")
	same := alice.delayed(present.text("delay_id"))
	if same.text("event_id") != watch.must("third").text("event_id") || same.number("finalised_ts") == 0 {
		t.Errorf("sent again, it is %v", same)
	}
	if alice.delayed(first).text("event_id") != watch.must("first").text("event_id") {
		t.Errorf("the first one became %v", alice.delayed(first))
	}
}

func TestStateBySomebodyElseTakesBackWhatIsPendingIfSoWished(t *testing.T) {
	hs1 := startWith(t, "hs1", setup{settings: "[delayed_events]\ncancel_superseded = true\n"})
	alice, bob := hs1.register("alice"), hs1.register("bob")
	room := alice.create()
	bob.join(room)
	alice.set(room, "m.room.power_levels", "", object{"users": object{"@alice:hs1": 100}, "state_default": 0})
	pending := alice.schedule(room, state("desk", "later", never))
	other := alice.schedule(room, state("chair", "later", never))
	alice.set(room, "org.example.desk", "desk", object{"value": "by alice"})
	sameAs(t, "scheduled after one's own", alice.pending(), []string{pending, other})
	bob.set(room, "org.example.desk", "desk", object{"value": "by bob"})
	sameAs(t, "scheduled after another's", alice.pending(), []string{other})
	for _, what := range []string{"restart", "send", "cancel"} {
		hs1.mustNot(pending, what, 404, "M_NOT_FOUND")
	}
}

func TestRedactionsMembershipsAndEncryptedEventsAreSentAsIfAtThatMoment(t *testing.T) {
	hs1 := start(t, "hs1")
	alice, bob := hs1.register("alice"), hs1.register("bob")
	room := alice.create()
	bob.join(room)
	watch := alice.watch(room)
	secret := later{kind: "m.room.encrypted", delay: never, content: object{
		"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "x", "session_id": "y", "body": "encrypted",
	}}
	hs1.manage(bob.schedule(room, secret), "send")
	sent := watch.must("encrypted")

	redaction := later{kind: "m.room.redaction", delay: never, content: object{
		"redacts": sent.text("event_id"), "body": "redaction",
	}}
	hs1.manage(bob.schedule(room, redaction), "send")
	watch.must("redaction")
	if redacted := alice.event(room, sent.text("event_id")); redacted.has("content") && len(redacted.at("content").(map[string]any)) != 0 {
		t.Errorf("redacted, it is %v", redacted)
	}

	leave := later{kind: "m.room.member", key: bob.id(), state: true, delay: never, content: object{
		"membership": "leave", "reason": "asleep",
	}}
	hs1.manage(bob.schedule(room, leave), "send")
	members := alice.get("/v3/rooms/" + url.PathEscape(room) + "/joined_members")
	if members.at("joined", bob.id()) != nil || members.at("joined", alice.id()) == nil {
		t.Errorf("the members are %v", members)
	}
}

func TestWhoForgetsARoomSendsNothingThereAnyMore(t *testing.T) {
	hs1 := start(t, "hs1")
	alice, bob := hs1.register("alice"), hs1.register("bob")
	room, other := alice.create(), alice.create()
	bob.join(room)
	bob.join(other)
	forgotten := bob.schedule(room, message("forgotten", never))
	kept := bob.schedule(other, message("kept", never))
	bob.member(room, "leave", nil)
	sameAs(t, "scheduled by a user who left", bob.pending(), []string{forgotten, kept})
	bob.member(room, "forget", nil)
	sameAs(t, "scheduled by a user who forgot the room", bob.pending(), []string{kept})
	hs1.manage(forgotten, "cancel")
	hs1.mustContradict(forgotten, "send")
}

func TestWhatADeactivatedAccountScheduledIsNotSent(t *testing.T) {
	hs1 := start(t, "hs1")
	alice, bob := hs1.register("alice"), hs1.register("bob")
	room := alice.create()
	bob.join(room)
	watch := alice.watch(room)
	soon := bob.schedule(room, message("soon", 1_500))
	far := bob.schedule(room, message("far", never))
	alice.schedule(room, message("after", 2_000))
	bob.deactivate()
	for _, id := range []string{soon, far} {
		hs1.mustNot(id, "send", 404, "M_NOT_FOUND")
	}
	watch.must("after")
	sameAs(t, "sent", watch.texts(), []string{"after"})
}

func TestAStickyDurationIsTakenWithTheDelay(t *testing.T) {
	hs1 := start(t, "hs1")
	alice := hs1.register("alice")
	room := alice.create()
	watch := alice.watch(room)
	for i, form := range forms {
		name := fmt.Sprint("sticky ", i)
		event := message(name, never)
		if form.state {
			event = state(name, name, never)
		}
		path, body := form.write(room, nextTransaction(), event)
		separator := "?"
		if i < 2 {
			separator = "&"
		}
		path += separator + "org.matrix.msc4354.sticky_duration_ms="
		status, answer := alice.do("PUT", path+"soon", alice.token, body)
		alice.expect("no duration", status, answer, http.StatusBadRequest, "M_INVALID_PARAM")
		hs1.manage(alice.scheduled(path+"60000", body), "send")
		watch.must(name)
	}
}
