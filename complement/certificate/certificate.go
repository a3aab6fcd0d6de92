// Package certificate gives a server the certificate of its test network.
package certificate

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// Issue writes server.crt and server.key into folder: a new key and a certificate for name, signed by the
// authority in folder/ca (ca.crt and ca.key, PEM), which every server of the network trusts.
func Issue(folder, name string) error {
	authority, err := tls.LoadX509KeyPair(filepath.Join(folder, "ca", "ca.crt"), filepath.Join(folder, "ca", "ca.key"))
	if err != nil {
		return err
	}
	issuer, err := x509.ParseCertificate(authority.Certificate[0])
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := sign(name, issuer, key.Public(), authority.PrivateKey)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := write(filepath.Join(folder, "server.crt"), "CERTIFICATE", der); err != nil {
		return err
	}
	return write(filepath.Join(folder, "server.key"), "PRIVATE KEY", private)
}

func sign(name string, issuer *x509.Certificate, key crypto.PublicKey, signer crypto.PrivateKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	return x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		// Verifiers ignore the common name.
		DNSNames:    []string{name},
		NotBefore:   time.Now().Add(-time.Hour),
		NotAfter:    time.Now().Add(365 * 24 * time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, issuer, key, signer)
}

func write(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
