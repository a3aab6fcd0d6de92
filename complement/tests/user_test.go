package tests

import (
	"fmt"
	"net/url"
	"sync/atomic"
	"testing"
	"time"
)

// A user is one account with one device.
type user struct {
	*server
	token     string
	localpart string
}

func (s *server) register(localpart string) *user {
	s.t.Helper()
	answer := s.must200("POST", "/_matrix/client/v3/register", "", object{
		"username": localpart, "password": password,
		"auth": object{"type": "m.login.dummy"},
	})
	return &user{s, answer.text("access_token"), localpart}
}

const password = "complement_meets_min_password_req"

// logIn is the same account with another device.
func (u *user) logIn() *user {
	u.t.Helper()
	answer := u.must200("POST", "/_matrix/client/v3/login", "", object{
		"type": "m.login.password", "password": password,
		"identifier": object{"type": "m.id.user", "user": u.localpart},
	})
	return &user{u.server, answer.text("access_token"), u.localpart}
}

// id is the user's id.
func (u *user) id() string {
	return "@" + u.localpart + ":" + u.name
}

// within is the user in a subtest.
func (u *user) within(t *testing.T) *user {
	inner := *u.server
	inner.t = t
	return &user{&inner, u.token, u.localpart}
}

func (u *user) get(path string) object {
	u.t.Helper()
	return u.must200("GET", "/_matrix/client"+path, u.token, nil)
}

// create makes a public room.
func (u *user) create() string {
	u.t.Helper()
	return u.must200("POST", "/_matrix/client/v3/createRoom", u.token, object{"preset": "public_chat"}).text("room_id")
}

// join is the user's joining of a room.
func (u *user) join(room string) {
	u.t.Helper()
	u.must200("POST", "/_matrix/client/v3/join/"+url.PathEscape(room), u.token, object{})
}

// member changes a membership in a room: the user's own, or that of another one.
func (u *user) member(room, what string, other *user) {
	u.t.Helper()
	body := object{}
	if other != nil {
		body["user_id"] = other.id()
	}
	u.must200("POST", "/_matrix/client/v3/rooms/"+url.PathEscape(room)+"/"+what, u.token, body)
}

// deactivate ends the user's account.
func (u *user) deactivate() {
	u.t.Helper()
	u.must200("POST", "/_matrix/client/v3/account/deactivate", u.token, object{"auth": object{
		"type": "m.login.password", "password": password,
		"identifier": object{"type": "m.id.user", "user": u.localpart},
	}})
}

var transaction atomic.Int64

// sendPath is where the next message goes.
func sendPath(room string) string {
	return fmt.Sprintf("/_matrix/client/v3/rooms/%s/send/m.room.message/%d", url.PathEscape(room), transaction.Add(1))
}

// arm sends a message that expires after so many seconds; returns its id and its token.
func (u *user) arm(room string, seconds int) (string, string) {
	u.t.Helper()
	answer := u.must200("PUT", sendPath(room), u.token, object{
		"msgtype": "m.text", "body": "here", "m.will_expire": seconds,
	})
	if answer.text("event_id") == "" || answer.text("event_id") != answer.text("eventId") {
		u.t.Errorf("the ids are %q and %q", answer.text("event_id"), answer.text("eventId"))
	}
	if answer.text("expire_refresh_token") == "" {
		u.t.Fatalf("no token in %v", answer)
	}
	return answer.text("event_id"), answer.text("expire_refresh_token")
}

// armState sets a state event that expires.
func (u *user) armState(room, key string, seconds int) (string, string) {
	u.t.Helper()
	path := fmt.Sprintf("/_matrix/client/v3/rooms/%s/state/org.example.presence/%s", url.PathEscape(room), key)
	answer := u.must200("PUT", path, u.token, object{"here": true, "m.will_expire": seconds})
	return answer.text("event_id"), answer.text("expire_refresh_token")
}

// event reads one event.
func (u *user) event(room, id string) object {
	u.t.Helper()
	return u.get("/v3/rooms/" + url.PathEscape(room) + "/event/" + url.PathEscape(id))
}

// status is that of an event that may expire.
func (u *user) status(room, id string) string {
	u.t.Helper()
	return u.event(room, id).text("unsigned", "m.will_expire", "status")
}

// expire refreshes or ends the event of a token, without an access token.
func (s *server) expire(method, token string) (int, object) {
	s.t.Helper()
	return s.do("PUT", "/_matrix/client/v3/expiration/"+method, "", object{"expire_refresh_token": token})
}

// mustExpire is expire where it has to succeed.
func (s *server) mustExpire(method, token string) {
	s.t.Helper()
	if status, answer := s.expire(method, token); status != 200 || len(answer) != 0 {
		s.t.Fatalf("%s: %d %v", method, status, answer)
	}
}

// mustNotExpire is expire where the token has to be unknown.
func (s *server) mustNotExpire(method, token string) {
	s.t.Helper()
	if status, answer := s.expire(method, token); status != 404 || answer.text("errcode") != "M_NOT_FOUND" {
		s.t.Errorf("%s: %d %v", method, status, answer)
	}
}

// terminal waits by /sync for the copy of an event, and returns it; nil if none comes in time.
func (u *user) terminal(room, id string, since *string, patience time.Duration) object {
	u.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		left := time.Until(end).Milliseconds()
		path := fmt.Sprintf("/v3/sync?timeout=%d", left)
		if *since != "" {
			path += "&since=" + url.QueryEscape(*since)
		}
		answer := u.get(path)
		*since = answer.text("next_batch")
		timeline, _ := answer.at("rooms", "join", room, "timeline", "events").([]any)
		for _, event := range timeline {
			found := object(event.(map[string]any))
			relation, _ := found.at("content", "m.relates_to").(map[string]any)
			if relation["rel_type"] == "m.expire.relationship" && relation["event_id"] == id {
				return found
			}
		}
	}
	return nil
}
