package crypt

import (
	"errors"
	"slices"
	"strings"
)

// Signers are the public keys that a reader trusts: each as AuthorizedKey
// returns it. A text is signed when one of them signed it.
type Signers []string

// ParseSigners checks public keys as people and files have them, each once.
func ParseSigners(keys []string) (Signers, error) {
	var signers Signers
	for _, key := range keys {
		signer, err := ParseSigner(key)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(signers, signer) {
			signers = append(signers, signer)
		}
	}
	return signers, nil
}

// Verify returns nil only when one of the keys made the signature over message.
// See the function Verify.
func (s Signers) Verify(message, signature []byte) error {
	if len(s) == 0 {
		return signatureError("no signer is trusted")
	}
	for _, signer := range s {
		err := Verify(message, signature, signer)
		if err == nil || len(s) == 1 || errors.Is(err, ErrDamagedSignature) {
			return err
		}
	}
	return signatureError("none of the " + count(len(s), "trusted signer") + " made it")
}

// String lists the keys, for a person.
func (s Signers) String() string { return strings.Join(s, ", ") }
