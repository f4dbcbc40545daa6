package server

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"ferry/internal/auth"
	"ferry/internal/config"
	"ferry/internal/metadb"
	"ferry/internal/oidc"
)

// openOIDC makes the login of people with an OpenID Connect provider, if cfg names one. The result
// is nil without one.
func (in *instance) openOIDC(cfg config.Config, signer *auth.Signer) (auth.People, error) {
	if cfg.OIDCIssuer == "" {
		if cfg.OIDCClientID != "" || cfg.OIDCGroups != "" {
			return nil, errors.New("oidc-issuer is missing, without which the other settings for OIDC have no effect")
		}
		return nil, nil
	}
	o := oidc.Options{
		Issuer: cfg.OIDCIssuer, ClientID: cfg.OIDCClientID, CLIClientID: cfg.OIDCCLIClientID,
		GroupsClaim: cfg.OIDCGroupsClaim, Key: signer.Secret("sessions of people"), Log: in.log,
		Address: addressFor(cfg.ExternalURL), LoggedIn: in.control.AuditLogin, Failed: in.control.LoginFailed,
	}
	if in.cluster != nil {
		o.Use = in.useLogin
	}
	if err := oidc.CheckIssuer(cfg.OIDCIssuer); err != nil {
		return nil, fmt.Errorf("oidc-issuer: %w", err)
	}
	if o.ClientID == "" {
		return nil, errors.New("oidc-issuer needs oidc-client-id")
	}
	var err error
	if o.Rules, err = oidc.ParseRules(cfg.OIDCGroups); err != nil {
		return nil, fmt.Errorf("oidc-groups: %w", err)
	}
	if len(o.Rules) == 0 {
		return nil, errors.New("oidc-issuer needs oidc-groups, such as ops=admin: nobody may log in otherwise")
	}
	if o.ClientSecret, err = secretIn(cfg.OIDCClientSecretFile); err != nil {
		return nil, err
	}
	if o.CLIClientSecret, err = secretIn(cfg.OIDCCLISecretFile); err != nil {
		return nil, err
	}
	if cfg.OIDCCA != "" {
		text, err := os.ReadFile(cfg.OIDCCA)
		if err != nil {
			return nil, fmt.Errorf("read the CA of the OIDC provider: %w", err)
		}
		if o.CA, err = x509.SystemCertPool(); err != nil {
			o.CA = x509.NewCertPool()
		}
		if !o.CA.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("read the CA of the OIDC provider: %s: no PEM certificate is in it", cfg.OIDCCA)
		}
	}
	in.oidc = oidc.New(o)
	return in.oidc, nil
}

// useLogin implements [oidc.Options.Use]. The database gets a hash of the state, which is a secret.
func (in *instance) useLogin(ctx context.Context, state string, end time.Time) (first bool, err error) {
	sum := sha256.Sum256([]byte(state))
	err = in.db.Update(ctx, func(tx *metadb.Tx) (err error) {
		first, err = tx.UseLogin(hex.EncodeToString(sum[:]), time.Now(), end)
		return err
	})
	return first, err
}

// secretIn returns the secret in a file; "" without a file.
func secretIn(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	text, err := os.ReadFile(path)
	if err == nil && strings.TrimSpace(string(text)) == "" {
		err = fmt.Errorf("%s: the file is empty", path)
	}
	if err != nil {
		return "", fmt.Errorf("read the secret of the OIDC client: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}
