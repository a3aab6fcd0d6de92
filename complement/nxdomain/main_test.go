package main

import (
	"bytes"
	"testing"
)

var question = []byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x03hs2\x00\x00\x21\x00\x01" + "additional")

func TestAQuestionIsAnsweredThatThereIsNoSuchName(t *testing.T) {
	want := []byte("\x12\x34\x81\x83\x00\x01\x00\x00\x00\x00\x00\x00\x03hs2\x00\x00\x21\x00\x01")
	if got := refuse(question); !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

func TestWhatIsNoQuestionIsNotAnswered(t *testing.T) {
	answer := append([]byte(nil), question...)
	answer[2] |= 0x80
	for _, packet := range [][]byte{nil, question[:11], question[:14], question[:19], answer} {
		if got := refuse(packet); got != nil {
			t.Errorf("%x was answered with %x", packet, got)
		}
	}
}
