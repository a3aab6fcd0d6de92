package tests

import (
	"fmt"
	"net/url"
	"testing"
	"time"
)

func TestAnEventThatIsNotKeptAliveExpires(t *testing.T) {
	hs1 := start(t, "hs1")
	alice, bob := hs1.register("alice"), hs1.register("bob")
	room := alice.create()
	bob.join(room)
	since := bob.get("/v3/sync").text("next_batch")

	id, token := alice.arm(room, 1)
	sent := time.Now()
	if hidden := bob.event(room, id).text("content", "m.will_expire"); hidden != "running" {
		t.Errorf("the others see %q", hidden)
	}
	if status := bob.status(room, id); status != "running" {
		t.Errorf("its status is %q", status)
	}
	copied := bob.terminal(room, id, &since, 3*time.Second)
	if copied == nil {
		t.Fatal("it did not expire")
	}
	if early := time.Second - time.Since(sent); early > 50*time.Millisecond {
		t.Errorf("it expired %s early", early)
	}
	for path, want := range map[string]string{
		"type": "m.room.message", "sender": "@alice:hs1",
	} {
		if got := copied.text(path); got != want {
			t.Errorf("%s of the copy is %q", path, got)
		}
	}
	if copied.text("content", "m.will_expire") != "expired" || copied.text("content", "body") != "here" {
		t.Errorf("the copy has %v", copied.at("content"))
	}
	if status := bob.event(room, id); status.text("unsigned", "m.will_expire", "status") != "expired" ||
		status.text("unsigned", "m.will_expire", "event_id") != copied.text("event_id") {
		t.Errorf("the original has %v", status.at("unsigned"))
	}
	hs1.mustNotExpire("refresh", token)
	hs1.mustNotExpire("end", token)
}

func TestWhoKnowsTheTokenKeepsAnEventAliveAndEndsIt(t *testing.T) {
	hs1 := start(t, "hs1")
	alice := hs1.register("alice")
	room := alice.create()
	since := alice.get("/v3/sync").text("next_batch")
	id, token := alice.arm(room, 2)
	for i := 0; i < 4; i++ {
		time.Sleep(time.Second)
		hs1.mustExpire("refresh", token)
	}
	if status := alice.status(room, id); status != "running" {
		t.Fatalf("kept alive, its status is %q", status)
	}
	hs1.mustExpire("end", token)
	copied := alice.terminal(room, id, &since, 3*time.Second)
	if copied == nil || copied.text("content", "m.will_expire") != "ended" {
		t.Fatalf("the copy is %v", copied)
	}
	hs1.mustExpire("end", token)
	hs1.mustNotExpire("refresh", token)
	if again := alice.terminal(room, id, &since, 2500*time.Millisecond); again != nil {
		t.Errorf("it ended twice: %v", again)
	}
}

func TestNonsenseIsRefusedAndSendsNothing(t *testing.T) {
	hs1 := start(t, "hs1")
	alice := hs1.register("alice")
	room := alice.create()
	for _, duration := range []any{0, -1, 1.5, "10", true, nil, []int{1}} {
		status, answer := hs1.do("PUT", sendPath(room), alice.token, object{"body": "no", "m.will_expire": duration})
		if status != 400 || answer.text("errcode") != "M_BAD_JSON" {
			t.Errorf("%v: %d %v", duration, status, answer)
		}
	}
	status, answer := hs1.do("PUT", sendPath(room), alice.token, object{"body": "no", "m.will_expire": 1 << 40})
	if status != 400 || answer.text("errcode") != "M_INVALID_PARAM" {
		t.Errorf("too long: %d %v", status, answer)
	}
	status, answer = hs1.do("PUT", "/_matrix/client/v3/rooms/"+url.PathEscape(room)+"/state/m.room.join_rules",
		alice.token, object{"join_rule": "public", "m.will_expire": 10})
	if status != 400 || answer.text("errcode") != "M_INVALID_PARAM" {
		t.Errorf("join rules: %d %v", status, answer)
	}
	hs1.mustNotExpire("refresh", "nonsense")
	if status, answer := hs1.expire("prolong", "nonsense"); status != 404 || answer.text("errcode") != "M_UNRECOGNIZED" {
		t.Errorf("unknown method: %d %v", status, answer)
	}
}

func TestANewStateEventStopsTheTimerOfTheOneItReplaces(t *testing.T) {
	hs1 := start(t, "hs1")
	alice := hs1.register("alice")
	room := alice.create()
	since := alice.get("/v3/sync").text("next_batch")
	first, old := alice.armState(room, "desk", 2)
	second, token := alice.armState(room, "desk", 1)
	hs1.mustNotExpire("refresh", old)
	copied := alice.terminal(room, second, &since, 3*time.Second)
	if copied == nil || copied.text("state_key") != "desk" {
		t.Fatalf("the copy is %v", copied)
	}
	current := alice.get("/v3/rooms/" + url.PathEscape(room) + "/state/org.example.presence/desk")
	if current.text("m.will_expire") != "expired" {
		t.Errorf("the state is %v", current)
	}
	hs1.mustNotExpire("refresh", token)
	if other := alice.terminal(room, first, &since, 2*time.Second); other != nil {
		t.Errorf("the replaced one expired too: %v", other)
	}
}

func TestARedactedEventDoesNotExpire(t *testing.T) {
	hs1 := start(t, "hs1")
	alice := hs1.register("alice")
	room := alice.create()
	since := alice.get("/v3/sync").text("next_batch")
	id, token := alice.arm(room, 1)
	path := fmt.Sprintf("/_matrix/client/v3/rooms/%s/redact/%s/%d", url.PathEscape(room), url.PathEscape(id), transaction.Add(1))
	alice.must200("PUT", path, alice.token, object{})
	hs1.mustNotExpire("refresh", token)
	if copied := alice.terminal(room, id, &since, 2500*time.Millisecond); copied != nil {
		t.Errorf("it expired: %v", copied)
	}
	if status := alice.status(room, id); status != "" {
		t.Errorf("its status is %q", status)
	}
}

func TestTimersSurviveAStopAndAKill(t *testing.T) {
	for _, how := range []string{"stop", "kill"} {
		t.Run(how, func(t *testing.T) {
			hs1 := start(t, "hs1")
			alice := hs1.register("alice")
			room := alice.create()
			since := alice.get("/v3/sync").text("next_batch")
			overdue, _ := alice.arm(room, 1)
			kept, token := alice.arm(room, 60)
			hs1.mustExpire("refresh", token)
			hs1.restart(how)
			if copied := alice.terminal(room, overdue, &since, 5*time.Second); copied == nil {
				t.Error("the one that came due did not expire")
			}
			if status := alice.status(room, kept); status != "running" {
				t.Errorf("the status of the other is %q", status)
			}
			hs1.mustExpire("refresh", token)
			hs1.mustExpire("end", token)
			if copied := alice.terminal(room, kept, &since, 3*time.Second); copied == nil ||
				copied.text("content", "m.will_expire") != "ended" {
				t.Errorf("ended, the copy is %v", copied)
			}
		})
	}
}
