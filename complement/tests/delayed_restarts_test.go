package tests

import (
	"testing"
	"time"
)

func TestDelayedEventsSurviveAStopAndAKill(t *testing.T) {
	for _, how := range []string{"stop", "kill"} {
		t.Run(how, func(t *testing.T) {
			hs1 := start(t, "hs1")
			alice := hs1.register("alice")
			room := alice.create()
			watch := alice.watch(room)
			path, body := formOf(message("", 0)).write(room, "before", message("kept", never))
			kept := alice.scheduled(path, body)
			cancelled := alice.schedule(room, message("cancelled", 300))
			hs1.manage(cancelled, "cancel")
			sent := alice.schedule(room, message("sent before", never))
			hs1.manage(sent, "send")
			// Handed in in another order than the one in which they are due.
			late := alice.schedule(room, message("overdue, the second", 3_000))
			early := alice.schedule(room, state("desk", "overdue, the first", 2_950))
			watch.must("sent before")
			back := time.Now().Add(3_200 * time.Millisecond)
			hs1.haltUntil(how, back)

			if at := watch.must("overdue, the second").number("origin_server_ts"); at < back.UnixMilli() {
				t.Errorf("sent at %d, before %d when the server was started", at, back.UnixMilli())
			}
			sameAs(t, "sent", watch.texts(), []string{"sent before", "overdue, the first", "overdue, the second"})
			sameAs(t, "scheduled", alice.pending(), []string{kept})
			for _, id := range []string{sent, early, late} {
				if !alice.delayed(id).has("event_id") {
					t.Errorf("it is listed as %v", alice.delayed(id))
				}
				hs1.manage(id, "send")
			}
			if again := alice.scheduled(path, body); again != kept {
				t.Error("the transaction is not known any more")
			}
			hs1.mustContradict(cancelled, "send")
			hs1.manage(kept, "restart")
			hs1.manage(kept, "send")
			watch.must("kept")
			hs1.restart(how)
			alice.schedule(room, message("last", 1))
			watch.must("last")
			sameAs(t, "sent in the end", watch.texts(),
				[]string{"sent before", "overdue, the first", "overdue, the second", "kept", "last"})
		})
	}
}

func TestARestartedDelayIsKeptByTheServerThatComesBack(t *testing.T) {
	hs1 := start(t, "hs1")
	alice := hs1.register("alice")
	room := alice.create()
	watch := alice.watch(room)
	id := alice.schedule(room, message("left", 3_000))
	began := alice.delayed(id).number("scheduled_at")
	watch.more(1_500 * time.Millisecond)
	hs1.manage(id, "restart")
	restarted := alice.delayed(id).number("scheduled_at")
	if restarted < began+1_000 {
		t.Fatalf("scheduled at %d, restarted at %d", began, restarted)
	}
	hs1.restart("kill")
	if now := alice.delayed(id).number("scheduled_at"); now != restarted {
		t.Errorf("restarted at %d, which became %d", restarted, now)
	}
	if at := watch.must("left").number("origin_server_ts"); at < restarted+3_000 {
		t.Errorf("due at %d, it was sent at %d", restarted+3_000, at)
	}
}

func TestWhatIsScheduledIsSentAlsoWhenSchedulingIsSwitchedOff(t *testing.T) {
	for _, settings := range []string{"enabled = false", "max_scheduled = 0"} {
		t.Run(settings, func(t *testing.T) {
			hs1 := start(t, "hs1")
			alice := hs1.register("alice")
			room := alice.create()
			watch := alice.watch(room)
			overdue := alice.schedule(room, message("overdue", 100))
			kept := alice.schedule(room, message("kept", never))
			hs1.host.halt("stop")
			hs1.addSettings("[delayed_events]\n" + settings + "\n")
			hs1.begin()

			watch.must("overdue")
			if !alice.delayed(overdue).has("event_id") {
				t.Errorf("it is listed as %v", alice.delayed(overdue))
			}
			for _, form := range forms {
				path, body := form.write(room, nextTransaction(), message("new", never))
				status, answer := alice.do("PUT", path, alice.token, body)
				alice.expect(form.name, status, answer, 403, "M_FORBIDDEN")
			}
			sameAs(t, "scheduled", alice.pending(), []string{kept})
			hs1.manage(kept, "restart")
			hs1.manage(kept, "send")
			watch.must("kept")
		})
	}
}
