package tests

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestTheServerSaysThatEventsCanExpire(t *testing.T) {
	hs1 := start(t, "hs1")
	alice := hs1.register("alice")
	if flag := alice.get("/versions").at("unstable_features", "org.matrix.msc4140.will_expire"); flag != true {
		t.Errorf("the flag is %v", flag)
	}
	capability, _ := alice.get("/v3/capabilities").at("capabilities", "m.will_expire").(map[string]any)
	for key, want := range map[string]any{
		"enabled": true, "min_duration": 1.0, "max_duration": 86400.0, "max_running": 100.0,
	} {
		if capability[key] != want {
			t.Errorf("%s is %v", key, capability[key])
		}
	}
}

func TestARepeatedRequestIsAnsweredTheSameEventAndToken(t *testing.T) {
	hs1 := start(t, "hs1")
	alice := hs1.register("alice")
	room := alice.create()
	since := alice.get("/v3/sync").text("next_batch")
	path, body := sendPath(room), object{"msgtype": "m.text", "body": "here", "m.will_expire": 1}
	first := alice.must200("PUT", path, alice.token, body)
	for _, when := range []string{"running", "expired"} {
		again := alice.must200("PUT", path, alice.token, body)
		for _, key := range []string{"event_id", "eventId", "expire_refresh_token"} {
			if first.text(key) == "" || again.text(key) != first.text(key) {
				t.Errorf("%s: %s is %q and %q", when, key, first.text(key), again.text(key))
			}
		}
		if when == "running" && alice.terminal(room, first.text("event_id"), &since, 3*time.Second) == nil {
			t.Error("it did not expire")
		}
	}
}

func TestEveryAnswerWithTheEventHasItsStatus(t *testing.T) {
	hs1 := start(t, "hs1")
	alice, bob := hs1.register("alice"), hs1.register("bob")
	room := alice.create()
	bob.join(room)
	since := bob.get("/v3/sync").text("next_batch")
	message, token := alice.arm(room, 60)
	state, _ := alice.armState(room, "desk", 60)
	escaped := url.PathEscape(room)
	check := func(status, id string) {
		t.Helper()
		for name, found := range map[string][]object{
			"sync":     bob.get("/v3/sync?since="+since).list("rooms", "join", room, "timeline", "events"),
			"messages": bob.get("/v3/rooms/" + escaped + "/messages?dir=b&limit=20").list("chunk"),
			"context":  {object(bob.get("/v3/rooms/" + escaped + "/context/" + url.PathEscape(id)).at("event").(map[string]any))},
			"event":    {bob.event(room, id)},
		} {
			shown := "nothing"
			for _, event := range found {
				if event.text("event_id") == id {
					shown = event.text("unsigned", "m.will_expire", "status")
				}
			}
			if shown != status {
				t.Errorf("%s: the status of %s is %q, not %q", name, id, shown, status)
			}
		}
	}
	check("running", message)
	check("running", state)
	hs1.mustExpire("end", token)
	check("ended", message)
	content := bob.get("/v3/rooms/" + escaped + "/state/org.example.presence/desk")
	if content.text("m.will_expire") != "running" || content.has("unsigned") {
		t.Errorf("the content is %v", content)
	}
}

func TestTheCopyNotifiesNobody(t *testing.T) {
	hs1 := start(t, "hs1")
	alice, bob := hs1.register("alice"), hs1.register("bob")
	room := alice.create()
	bob.join(room)
	id, _ := alice.arm(room, 1)
	since := bob.get("/v3/sync").text("next_batch")
	if bob.terminal(room, id, &since, 3*time.Second) == nil {
		t.Fatal("it did not expire")
	}
	counts := object(bob.get("/v3/sync").at("rooms", "join", room).(map[string]any))
	if count := counts.text("unread_notifications", "notification_count"); count != "1" {
		t.Errorf("the original and its copy notify %q times", count)
	}
}

func TestAUserHasAtMostAHundredTimers(t *testing.T) {
	hs1 := start(t, "hs1")
	alice := hs1.register("alice")
	room := alice.create()
	var token string
	for i := 0; i < 100; i++ {
		_, token = alice.arm(room, 600)
	}
	body := []byte(`{"msgtype":"m.text","body":"one more","m.will_expire":600}`)
	status, header, answer := hs1.send("PUT", sendPath(room), alice.token, body)
	if status != http.StatusTooManyRequests || answer.text("errcode") != "M_LIMIT_EXCEEDED" || header.Get("Retry-After") == "" {
		t.Errorf("the hundred and first: %d %v %v", status, header, answer)
	}
	hs1.mustExpire("end", token)
	alice.arm(room, 600)
}

func TestAnEventWhoseCopyWouldBeTooLargeIsRefused(t *testing.T) {
	hs1 := start(t, "hs1")
	alice := hs1.register("alice")
	room := alice.create()
	text := strings.Repeat("x", 64200)
	status, answer := hs1.do("PUT", sendPath(room), alice.token, object{"body": text, "m.will_expire": 10})
	if status != http.StatusRequestEntityTooLarge || answer.text("errcode") != "M_TOO_LARGE" {
		t.Errorf("it was answered %d %v", status, answer)
	}
	alice.must200("PUT", sendPath(room), alice.token, object{"body": text})
}

func TestTheEventOfSomebodyWhoLeftExpiresWithoutACopy(t *testing.T) {
	hs1 := start(t, "hs1")
	alice, bob := hs1.register("alice"), hs1.register("bob")
	room := alice.create()
	bob.join(room)
	since := alice.get("/v3/sync").text("next_batch")
	id, token := bob.arm(room, 1)
	bob.member(room, "leave", nil)
	if copied := alice.terminal(room, id, &since, 2500*time.Millisecond); copied != nil {
		t.Errorf("there is a copy: %v", copied)
	}
	status, _ := alice.event(room, id).at("unsigned", "m.will_expire").(map[string]any)
	if status["status"] != "expired" || status["event_id"] != nil {
		t.Errorf("the original has %v", status)
	}
	hs1.mustNotExpire("refresh", token)
}

func TestTheEventsOfADeactivatedAccountExpireAtOnce(t *testing.T) {
	hs1 := start(t, "hs1")
	alice, bob := hs1.register("alice"), hs1.register("bob")
	room := alice.create()
	bob.join(room)
	since := alice.get("/v3/sync").text("next_batch")
	id, token := bob.arm(room, 600)
	bob.deactivate()
	if copied := alice.terminal(room, id, &since, 5*time.Second); copied == nil || copied.text("content", "m.will_expire") != "expired" {
		t.Errorf("the copy is %v", copied)
	}
	hs1.mustNotExpire("refresh", token)
}

func TestOtherWaysToSendAnEventDoNotLetItExpire(t *testing.T) {
	hs1 := start(t, "hs1")
	alice := hs1.register("alice")
	status, answer := hs1.do("POST", "/_matrix/client/v3/createRoom", alice.token, object{"initial_state": []any{
		object{"type": "org.example.presence", "state_key": "", "content": object{"m.will_expire": 10}},
	}})
	if status == http.StatusOK || answer.text("errcode") == "" {
		t.Errorf("a room with it: %d %v", status, answer)
	}
}

func TestGuessedTokensAreLimitedAndTheTextIsTheSameForAll(t *testing.T) {
	hs1 := start(t, "hs1")
	_, unknown := hs1.expire("refresh", "nonsense")
	_, malformed := hs1.expire("end", strings.Repeat("A", 64))
	if unknown.text("error") != malformed.text("error") || unknown.text("errcode") != "M_NOT_FOUND" {
		t.Errorf("the answers are %v and %v", unknown, malformed)
	}
	for _, body := range []string{"", "{", "secret"} {
		status, _, answer := hs1.send("PUT", "/_matrix/client/v3/expiration/end", "", []byte(body))
		if status != http.StatusBadRequest || answer.text("errcode") != "M_NOT_JSON" {
			t.Errorf("%q: %d %v", body, status, answer)
		}
	}
	for _, body := range []string{"{}", `{"expire_refresh_token":1}`, "[]"} {
		status, _, answer := hs1.send("PUT", "/_matrix/client/v3/expiration/end", "", []byte(body))
		if status != http.StatusBadRequest || answer.text("errcode") != "M_BAD_JSON" {
			t.Errorf("%q: %d %v", body, status, answer)
		}
	}
	status, answer := hs1.do("POST", "/_matrix/client/v3/expiration/end", "", object{"expire_refresh_token": "x"})
	hs1.expect("another method", status, answer, 405, "M_UNRECOGNIZED")
	status, answer = hs1.do("PUT", fmt.Sprint("/_matrix/client/unstable/org.matrix.msc4140/expiration/", "end"), "", object{"expire_refresh_token": "x"})
	hs1.expect("the unstable path", status, answer, 404, "M_NOT_FOUND")
}
