// Command enter is what the image starts: it issues the server's certificate and becomes the server.
package main

import (
	"log"
	"os"
	"syscall"

	"wick.invalid/complement/certificate"
)

func main() {
	if err := certificate.Issue("/complement", os.Getenv("SERVER_NAME")); err != nil {
		log.Fatal(err)
	}
	log.Fatal(syscall.Exec("/wick", []string{"wick", "--config", "/complement/wick.toml"}, os.Environ()))
}
