// Command nxdomain is a name server that answers NXDOMAIN to every question, at once.
//
// On a machine without outside DNS, Docker's own name server never answers what it does not know, so
// that every look-up of a service record costs the asking server its whole time-out. Behind this one
// it gets NXDOMAIN in less than a millisecond.
//
// usage: nxdomain ADDRESS, such as 172.17.0.1:53
package main

import (
	"log"
	"net"
	"os"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: nxdomain ADDRESS")
	}
	// The address of one interface: an answer from any other would not be taken.
	socket, err := net.ListenPacket("udp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	buffer := make([]byte, 1500)
	for {
		size, asker, err := socket.ReadFrom(buffer)
		if err != nil {
			log.Fatal(err)
		}
		if answer := refuse(buffer[:size]); answer != nil {
			if _, err := socket.WriteTo(answer, asker); err != nil {
				log.Print(err)
			}
		}
	}
}

// refuse returns the question, made into the answer that there is no such name (RFC 1035, 4.1.1);
// nil for what is no question.
func refuse(question []byte) []byte {
	const header = 12
	if len(question) < header || question[2]&0x80 != 0 {
		return nil
	}
	end := header
	for end < len(question) && question[end] != 0 {
		end += int(question[end]) + 1
	}
	end += 5 // the root label, type and class
	if question[4] != 0 || question[5] != 1 || end > len(question) {
		return nil
	}
	answer := append([]byte(nil), question[:end]...)
	answer[2] |= 0x80                       // an answer
	answer[3] = 0x80 | 3                    // recursion available, no such name
	copy(answer[6:header], make([]byte, 6)) // no records follow
	return answer
}
