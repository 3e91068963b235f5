package peer

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"testing"
	"time"
)

// certificate is a self-signed one for a name.
func certificate(t *testing.T, name string) tls.Certificate {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(4_000_000_000, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}
}

// secure wraps a transport's connections in TLS and proves the name that the
// certificate has. (It trusts any certificate: only the wrapping is tested.)
func secure(t *testing.T, certified string) func(*Options) {
	return func(o *Options) {
		config := &tls.Config{
			Certificates: []tls.Certificate{certificate(t, certified)}, InsecureSkipVerify: true,
			ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS13,
		}
		listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
		if err != nil {
			t.Fatal(err)
		}
		o.Listener = listener
		o.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			return (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", address)
		}
		o.Identify = func(c net.Conn) (string, error) {
			s, ok := c.(*tls.Conn)
			if !ok {
				return "", errors.New("not TLS")
			}
			if err := s.Handshake(); err != nil {
				return "", err
			}
			return s.ConnectionState().PeerCertificates[0].Subject.CommonName, nil
		}
	}
}

func TestOverTLS(t *testing.T) {
	a, b := start(t, 1, "s1", secure(t, "s1")), start(t, 2, "s2", secure(t, "s2"))
	mallory := start(t, 3, "s3", secure(t, "s4"))
	introduceAll(a, b, mallory)
	expect(t, a.links, "up 2")
	ready(t, a, 2)
	data := bytes.Repeat([]byte("secret"), 1<<15)
	e, m := entries(5, 1, 2, 1, data, []byte("x"))
	if !a.Send(2, e, m) {
		t.Fatal("refused")
	}
	got := await(t, b.messages, "append").message
	if !bytes.Equal(got.Entries[0].Data, data) || string(got.Entries[1].Data) != "x" {
		t.Fatal("bytes differ")
	}
	until(t, "the other to be refused", func() bool { return errors.Is(a.Peers()[1].LastError, ErrIdentity) })
	if a.Peers()[1].Up {
		t.Fatal("a server with another's certificate is up")
	}
}
