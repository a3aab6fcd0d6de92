package tests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"
)

// An event whose sending was answered, and what was answered since.
type answered struct {
	id, room, token string
	duration        time.Duration
	// The event lasts at least until this, by what was answered last.
	until time.Time
	// Its end was asked for; whether that was answered.
	asked, ended bool
}

// try sends a request to a server that may be killed meanwhile; nil if it is not answered 200.
func (s *server) try(method, path, token string, body object) object {
	text, err := json.Marshal(body)
	if err != nil {
		return nil
	}
	request, err := http.NewRequest(method, s.base+path, bytes.NewReader(text))
	if err != nil {
		return nil
	}
	request.Header.Set("Authorization", "Bearer "+token)
	answer, err := (&http.Client{Timeout: 10 * time.Second}).Do(request)
	if err != nil {
		return nil
	}
	defer answer.Body.Close()
	var read object
	if json.NewDecoder(answer.Body).Decode(&read) != nil || answer.StatusCode != http.StatusOK {
		return nil
	}
	return read
}

// live sends events that expire, keeps some alive and ends some, until it is stopped; every third is state. Now
// and then it replaces the state under the key "shared", whose earlier events end by that.
func (u *user) live(room string, number int64, stop <-chan struct{}) []*answered {
	dice := rand.New(rand.NewSource(number))
	var all []*answered
	for count := 0; ; count++ {
		select {
		case <-stop:
			return all
		default:
		}
		if len(all) == 0 || dice.Intn(3) == 0 {
			seconds := 1 + dice.Intn(3)
			body := object{"msgtype": "m.text", "body": "here", "m.will_expire": seconds}
			path := sendPath(room)
			if dice.Intn(3) == 0 {
				path = fmt.Sprintf("/_matrix/client/v3/rooms/%s/state/org.example.presence/%d-%d", url.PathEscape(room), number, count)
			}
			began := time.Now()
			if answer := u.try("PUT", path, u.token, body); answer != nil {
				duration := time.Duration(seconds) * time.Second
				all = append(all, &answered{
					id: answer.text("event_id"), room: room, token: answer.text("expire_refresh_token"),
					duration: duration, until: began.Add(duration),
				})
			} else {
				time.Sleep(5 * time.Millisecond)
			}
			continue
		}
		if dice.Intn(8) == 0 {
			u.try("PUT", sharedPath(room), u.token, object{"m.will_expire": 1 + dice.Intn(3)})
			continue
		}
		event, began := all[len(all)-1-dice.Intn(min(len(all), 5))], time.Now()
		body := object{"expire_refresh_token": event.token}
		switch {
		case event.asked:
		case dice.Intn(4) == 0:
			event.asked = true
			event.ended = u.try("PUT", "/_matrix/client/v3/expiration/end", "", body) != nil
		default:
			if u.try("PUT", "/_matrix/client/v3/expiration/refresh", "", body) != nil {
				event.until = began.Add(event.duration)
			}
		}
		time.Sleep(time.Duration(dice.Intn(30)) * time.Millisecond)
	}
}

func sharedPath(room string) string {
	return fmt.Sprintf("/_matrix/client/v3/rooms/%s/state/org.example.presence/shared", url.PathEscape(room))
}

func min(a, b int) int {
	if a < b {
		return a
	}
	return b
}

// copies are the terminal events of a room, by what they end.
func (u *user) copies(room string) map[string][]object {
	u.t.Helper()
	found := map[string][]object{}
	for from := ""; ; {
		path := "/v3/rooms/" + url.PathEscape(room) + "/messages?dir=b&limit=100"
		if from != "" {
			path += "&from=" + url.QueryEscape(from)
		}
		page := u.get(path)
		for _, event := range page.list("chunk") {
			if event.text("content", "m.relates_to", "rel_type") == "m.expire.relationship" {
				original := event.text("content", "m.relates_to", "event_id")
				found[original] = append(found[original], event)
			}
		}
		if from = page.text("end"); from == "" || len(page.list("chunk")) == 0 {
			return found
		}
	}
}

// KILLS sets how often; the default is for every day.
func TestThroughKillsEveryEventEndsOnceAndNeverEarly(t *testing.T) {
	kills := 3
	if text := os.Getenv("KILLS"); text != "" {
		number, err := strconv.Atoi(text)
		must(t, err)
		kills = number
	}
	hs1 := start(t, "hs1")
	var users []*user
	var rooms []string
	for i := 0; i < 4; i++ {
		users = append(users, hs1.register(fmt.Sprint("user", i)))
		rooms = append(rooms, users[i].create())
	}
	perUser, perUserRooms := make([][]*answered, len(users)), make([][]string, len(users))
	for kill := 0; kill < kills; kill++ {
		stop := make(chan struct{})
		var working sync.WaitGroup
		for i, one := range users {
			working.Add(1)
			go func(i int, one *user) {
				defer working.Done()
				done := one.live(rooms[i], int64(kill*len(users)+i), stop)
				perUser[i] = append(perUser[i], done...)
			}(i, one)
		}
		time.Sleep(time.Duration(200+rand.Intn(1500)) * time.Millisecond)
		hs1.host.halt("kill")
		close(stop)
		working.Wait()
		hs1.begin()
		for i, one := range users {
			if !one.canSend(rooms[i]) {
				perUserRooms[i] = append(perUserRooms[i], rooms[i])
				rooms[i] = one.create()
			}
		}
	}

	total, broken, unended := 0, 0, 0
	for i, one := range users {
		broken += len(perUserRooms[i])
		for _, room := range append(perUserRooms[i], rooms[i]) {
			var all []*answered
			for _, event := range perUser[i] {
				if event.room == room {
					all = append(all, event)
				}
			}
			total += len(all)
			if one.canSend(room) {
				one.judgeRoom(room, all)
			} else {
				unended += one.judgeBroken(room, all)
			}
		}
	}
	t.Logf("%d kills, %d answered events, %d rooms broken by the server, in them %d events that did not end", kills, total, broken, unended)
	if total < kills {
		t.Errorf("only %d events were answered", total)
	}
	if broken > 0 && os.Getenv("PATCHED_BINARY") == "" {
		t.Errorf("nothing can be sent to %d rooms any more", broken)
	}
}

// canSend is whether a plain message is accepted, which another server than wick may refuse after a kill.
func (u *user) canSend(room string) bool {
	return u.try("PUT", sendPath(room), u.token, object{"msgtype": "m.text", "body": "plain"}) != nil
}

// judgeRoom waits until all events have ended, and compares how with what was answered.
func (u *user) judgeRoom(room string, all []*answered) {
	u.t.Helper()
	copies := u.copies(room)
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
		missing := 0
		for _, event := range all {
			if len(copies[event.id]) == 0 {
				missing++
			}
		}
		if missing == 0 && u.shared(room) != "running" {
			break
		}
		copies = u.copies(room)
	}
	for _, event := range all {
		u.judge(event, room, copies[event.id])
	}
	if u.shared(room) == "running" {
		u.t.Errorf("%s: the state that replaced others never ended", room)
	}
	u.judgeOnce(copies)
}

// judgeBroken compares what did end in a room that the server cannot write to, and counts what did not.
func (u *user) judgeBroken(room string, all []*answered) int {
	u.t.Helper()
	unended, copies := 0, u.copies(room)
	for _, event := range all {
		if len(copies[event.id]) == 0 {
			unended++
			continue
		}
		u.judge(event, room, copies[event.id])
	}
	u.judgeOnce(copies)
	return unended
}

func (u *user) judgeOnce(copies map[string][]object) {
	u.t.Helper()
	for original, events := range copies {
		if len(events) > 1 {
			u.t.Errorf("%s ended %d times", original, len(events))
		}
	}
}

// shared is the status of the state that live replaces, empty if there is none.
func (u *user) shared(room string) string {
	return u.try("GET", sharedPath(room), u.token, nil).text("m.will_expire")
}

// judge compares an event's end with what was answered.
func (u *user) judge(event *answered, room string, copies []object) {
	u.t.Helper()
	if len(copies) == 0 {
		u.t.Errorf("%s never ended; its status is %q", event.id, u.status(room, event.id))
		return
	}
	copied := copies[0]
	how := copied.text("content", "m.will_expire")
	if event.ended && how != "ended" || !event.asked && how != "expired" {
		u.t.Errorf("%s: asked to end %v, answered %v, it %s", event.id, event.asked, event.ended, how)
	}
	at, _ := copied.at("origin_server_ts").(float64)
	if early := event.until.Sub(time.UnixMilli(int64(at))); how == "expired" && early > 2*time.Millisecond {
		u.t.Errorf("%s expired %s early", event.id, early)
	}
	if status := u.status(room, event.id); status != how {
		u.t.Errorf("%s %s, its status is %q", event.id, how, status)
	}
}
