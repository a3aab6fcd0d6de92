package tests

import (
	"net/http"
	"testing"
	"time"
)

func TestTheCertificateIsForTheServersNameBySomebodyTrusted(t *testing.T) {
	hs1 := start(t, "hs1")
	url := "https://" + hs1.host.address("8448") + "/_matrix/client/versions"
	answer, err := hs1.authority.trust("hs1").Get(url)
	must(t, err)
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Errorf("status %d", answer.StatusCode)
	}
	if answer, err := hs1.authority.trust("hs2").Get(url); err == nil {
		answer.Body.Close()
		t.Error("the certificate is good for another name")
	}
}

func TestASecondStartOnTheSameFilesKnowsItsUsersAndIsQuick(t *testing.T) {
	hs1 := start(t, "hs1")
	alice := hs1.register("alice")
	began := time.Now()
	hs1.restart("stop")
	t.Logf("stopped, started and answering after %s", time.Since(began))
	if id := alice.get("/v3/account/whoami").text("user_id"); id != "@alice:hs1" {
		t.Errorf("the token is %q's", id)
	}
}
