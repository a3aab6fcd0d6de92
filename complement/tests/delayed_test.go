package tests

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"
)

// A later is an event that is handed in now and sent later.
type later struct {
	kind    string
	key     string
	state   bool
	content object
	// In milliseconds; anything, to try what is not one.
	delay any
}

// message is one with the text body.
func message(body string, delay any) later {
	return later{kind: "m.room.message", content: object{"msgtype": "m.text", "body": body}, delay: delay}
}

// state is one that sets the state of key.
func state(key string, value any, delay any) later {
	return later{kind: "org.example.desk", key: key, state: true, content: object{"value": value}, delay: delay}
}

// A form is a way to schedule an event: path and body of the request.
type form struct {
	name  string
	state bool
	write func(room, txn string, event later) (string, object)
}

const unstable = "/_matrix/client/unstable/org.matrix.msc4140"

var forms = []form{
	{"query of send", false, func(room, txn string, event later) (string, object) {
		return fmt.Sprintf("/_matrix/client/v3/rooms/%s/send/%s/%s?org.matrix.msc4140.delay=%v",
			url.PathEscape(room), event.kind, txn, event.delay), event.content
	}},
	{"query of state", true, func(room, _ string, event later) (string, object) {
		return fmt.Sprintf("/_matrix/client/v3/rooms/%s/state/%s/%s?org.matrix.msc4140.delay=%v",
			url.PathEscape(room), event.kind, url.PathEscape(event.key), event.delay), event.content
	}},
	pathForm("stable path, message", false, "/_matrix/client/v3", "delay_ms"),
	pathForm("stable path, state", true, "/_matrix/client/v3", "delay_ms"),
	pathForm("unstable path, message", false, unstable, "delay_ms"),
	pathForm("unstable path, state", true, unstable, "delay"),
}

func pathForm(name string, state bool, prefix, delay string) form {
	return form{name, state, func(room, txn string, event later) (string, object) {
		body := object{delay: event.delay, "content": event.content}
		if event.state {
			body["state_key"] = event.key
		}
		return fmt.Sprintf("%s/rooms/%s/delayed_event/%s/%s", prefix, url.PathEscape(room), event.kind, txn), body
	}}
}

// formOf is the first one for such an event: the one of the query, which most clients speak.
func formOf(event later) form {
	for _, form := range forms {
		if form.state == event.state {
			return form
		}
	}
	panic("there is a form for each")
}

// An action does something with a delayed event, in one of the forms: path and body of the request.
type action struct {
	name  string
	write func(id, what string) (string, any)
	// The error code, with status 409, of what contradicts what has become of the event.
	conflict string
}

var actions = []action{
	{"body", func(id, what string) (string, any) {
		return unstable + "/delayed_events/" + url.PathEscape(id), object{"action": what}
	}, "M_NOT_FOUND"},
	{"unstable path", func(id, what string) (string, any) {
		return unstable + "/delayed_events/" + url.PathEscape(id) + "/" + what, object{}
	}, "M_NOT_FOUND"},
	{"stable path", func(id, what string) (string, any) {
		return "/_matrix/client/v1/delayed_events/" + url.PathEscape(id) + "/" + what, object{}
	}, "M_UNKNOWN"},
}

// schedule hands in an event in the form most clients speak, and returns its delay id.
func (u *user) schedule(room string, event later) string {
	u.t.Helper()
	path, body := formOf(event).write(room, nextTransaction(), event)
	return u.scheduled(path, body)
}

// scheduled sends a request that has to schedule an event.
func (u *user) scheduled(path string, body object) string {
	u.t.Helper()
	answer := u.must200("PUT", path, u.token, body)
	if answer.text("delay_id") == "" || len(answer) != 1 {
		u.t.Fatalf("%s: %v", path, answer)
	}
	return answer.text("delay_id")
}

func nextTransaction() string {
	return fmt.Sprintf("later%d", transaction.Add(1))
}

// manage performs an action on a delayed event, without an access token.
func (s *server) manage(id, what string) {
	s.t.Helper()
	if status, answer := s.managed(id, what); status != http.StatusOK || len(answer) != 0 {
		s.t.Fatalf("%s: %d %v", what, status, answer)
	}
}

// managed is manage where it may fail.
func (s *server) managed(id, what string) (int, object) {
	s.t.Helper()
	path, body := actions[1].write(id, what)
	return s.do("POST", path, "", body)
}

// mustContradict does something with a delayed event that contradicts what has become of it.
func (s *server) mustContradict(id, what string) {
	s.t.Helper()
	for _, action := range actions {
		path, body := action.write(id, what)
		status, answer := s.do("POST", path, "", body)
		s.expect(action.name+", "+what, status, answer, 409, action.conflict)
	}
}

// mustNot does something with a delayed event that is to be refused.
func (s *server) mustNot(id, what string, status int, errcode string) {
	s.t.Helper()
	got, answer := s.managed(id, what)
	s.expect(what, got, answer, status, errcode)
}

// A refusal is the status and the errcode of an error.
type refusal struct {
	status  int
	errcode string
}

// expect compares an answer with the refusal that it should be.
func (s *server) expect(what string, got int, answer object, status int, errcode string) {
	s.t.Helper()
	if got != status || answer.text("errcode") != errcode {
		s.t.Errorf("%s: %d %v instead of %d %s", what, got, answer, status, errcode)
	}
}

// delayed is one delayed event as its owner gets it.
func (u *user) delayed(id string) object {
	u.t.Helper()
	return u.get("/v1/delayed_events/" + url.PathEscape(id))
}

// pending are the ids of what is scheduled, as the list has them.
func (u *user) pending() []string {
	u.t.Helper()
	ids := []string{}
	for _, event := range u.get("/v1/delayed_events").list("delayed_events") {
		ids = append(ids, event.text("delay_id"))
	}
	return ids
}

// sameAs compares lists.
func sameAs(t *testing.T, what string, got, want []string) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: %q instead of %q", what, got, want)
	}
}

// A watch sees what happens in a room from some moment on.
type watch struct {
	*user
	room, since string
	seen        []object
}

func (u *user) watch(room string) *watch {
	u.t.Helper()
	return &watch{user: u, room: room, since: u.get("/v3/sync").text("next_batch")}
}

// more waits until something happens, but not for longer than patience.
func (w *watch) more(patience time.Duration) {
	w.t.Helper()
	answer := w.get(fmt.Sprintf("/v3/sync?timeout=%d&since=%s", patience.Milliseconds(), url.QueryEscape(w.since)))
	w.since = answer.text("next_batch")
	for _, set := range []string{"join", "leave"} {
		timeline := object{"rooms": answer["rooms"]}.list("rooms", set, w.room, "timeline", "events")
		w.seen = append(w.seen, timeline...)
	}
}

// find waits for an event; nil if there is none in time.
func (w *watch) find(patience time.Duration, wanted func(object) bool) object {
	w.t.Helper()
	end := time.Now().Add(patience)
	for checked := 0; ; {
		for ; checked < len(w.seen); checked++ {
			if wanted(w.seen[checked]) {
				return w.seen[checked]
			}
		}
		if !time.Now().Before(end) {
			return nil
		}
		w.more(time.Until(end))
	}
}

// must waits for the text of a delayed event, in its body or as the value of its state.
func (w *watch) must(text string) object {
	w.t.Helper()
	found := w.find(10*time.Second, func(event object) bool { return textOf(event) == text })
	if found == nil {
		w.t.Fatalf("%q was not sent", text)
	}
	return found
}

// texts are those of what was sent up to now, in order, memberships and the like left out.
func (w *watch) texts() []string {
	texts := []string{}
	for _, event := range w.seen {
		if text := textOf(event); text != "" {
			texts = append(texts, text)
		}
	}
	return texts
}

func textOf(event object) string {
	return event.text("content", "body") + event.text("content", "value")
}

// number follows a path of keys to a number.
func (o object) number(path ...string) int64 {
	value, _ := o.at(path...).(float64)
	return int64(value)
}

// asJSON is a body as it goes over the wire.
func asJSON(t *testing.T, body any) []byte {
	t.Helper()
	text, err := json.Marshal(body)
	must(t, err)
	return text
}
