package connected_test

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/api"
	"ferry/internal/auth"
	"ferry/internal/control"
	"ferry/internal/credential"
	"ferry/internal/metadb"
	"ferry/internal/wire"
)

// passwords returns the passwords of a sync token as s has them.
func (s *instance) passwords(name string) []metadb.Password {
	s.T.Helper()
	token := s.control.State().Token(name)
	if token == nil {
		s.T.Fatalf("%s has no token %s", s.name, name)
	}
	return token.Passwords
}

// rotations returns how often s has replaced the password of a sync token.
func (s *instance) rotations(name string) (n int) {
	s.T.Helper()
	entries, err := s.control.AuditLog(s.T.Context(), metadb.AuditQuery{Limit: 1000})
	if err != nil {
		s.T.Fatal(err)
	}
	for _, e := range entries {
		if e.Action == "rotate-password" && e.Object == "connected-registries/"+name && e.Actor == name {
			n++
		}
	}
	return n
}

func (s *instance) setStatus(token, status string) {
	s.T.Helper()
	if _, err := s.control.UpdateToken(s.T.Context(), by, token, api.TokenPatch{Status: &status},
		control.Precondition{}); err != nil {
		s.T.Fatal(err)
	}
}

func TestPasswordsAreRotatedThroughEveryLevel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		daily := api.RegistryPut{Settings: api.Settings{
			RotatePasswordEvery: new("P1D"), Schedule: new("0 */12 * * *"), SyncWindow: new("PT1H"),
		}}
		ship, cabin, cell := root.child("ship1"), root.child("cabin1"), root.child("cell1")
		parent := root
		for _, s := range []*instance{ship, cabin, cell} { // all passwords exist before the first login
			daily.Parent = parent.name
			s.parent, s.connection = parent, root.connectedRegistry(s.name, daily)
			parent = s
		}
		for _, s := range []*instance{ship, cabin, cell} {
			s.restart()
		}
		time.Sleep(4 * 24 * time.Hour)
		for _, name := range []string{"ship1", "cabin1", "cell1"} {
			if n := root.rotations(name); n < 2 || n > 5 {
				t.Errorf("%s: %d rotations in four days, want 2 to 5", name, n)
			}
			if n := len(root.passwords(name)); n != 2 {
				t.Errorf("%s has %d passwords, want 2", name, n)
			}
			r, err := root.fleet.Get(t.Context(), by, name)
			if last := r.Parent.SyncProperties.LastRotationTime; err != nil || last == nil ||
				time.Since(*last) > 40*time.Hour || len(r.StatusDetails) > 0 || r.LastRefusedLogin != nil {
				t.Errorf("%s: rotated at %v, refused %v, details %v, %v", name, last, r.LastRefusedLogin,
					r.StatusDetails, err)
			}
		}
		d := root.push("app/a", "1", "v1", 10)
		for _, s := range []*instance{ship, cabin, cell} {
			s.restart() // with the first password in its connection string
			s.agent.SyncNow(t.Context())
			s.awaitTag("app/a", "v1", d)
		}
		if text := root.log.String() + ship.log.String(); strings.Contains(text, cell.connection.Password) {
			t.Error("a log has the password")
		}
	})
}

// A cutConn ends after some bytes.
type cutConn struct {
	net.Conn
	left atomic.Int64 // in both directions
}

func (c *cutConn) count(n int, err error) (int, error) {
	if c.left.Add(-int64(n)) < 0 {
		c.Close()
	}
	return n, err
}

func (c *cutConn) Read(b []byte) (int, error) { return c.count(c.Conn.Read(b[:min(len(b), 64)])) }

func (c *cutConn) Write(b []byte) (n int, err error) {
	for len(b) > 0 && err == nil {
		var part int
		part, err = c.count(c.Conn.Write(b[:min(len(b), 64)]))
		n, b = n+part, b[part:]
	}
	return n, err
}

func TestRotationSurvivesCutsAndKills(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		ship := root.child("ship1")
		c := root.connectedRegistry("ship1", api.RegistryPut{
			Settings: api.Settings{RotatePasswordEvery: new("P1D")},
		})
		var limit atomic.Int64
		run := func(most int64) (stop func()) {
			limit.Store(most)
			return root.startAt(ship, c, func(ctx context.Context, _, _ string) (net.Conn, error) {
				inner, err := root.link.dial(ctx)
				if err != nil {
					return nil, err
				}
				conn := &cutConn{Conn: inner}
				conn.left.Store(limit.Load())
				return conn, nil
			})
		}
		const whole = 1 << 40
		stop := run(whole)
		time.Sleep(time.Minute)
		for at := int64(64); at < 4096; at += 192 {
			stop()
			time.Sleep(26 * time.Hour)
			stop = run(at) // a new password is due, and every connection is cut
			time.Sleep(3 * time.Minute)
			stop() // as a kill does: nothing is saved now
			stop = run(whole)
			time.Sleep(3 * time.Minute)
			r, err := root.fleet.Get(t.Context(), by, "ship1")
			if heard := r.LastActivityTime; err != nil || time.Since(*heard) > time.Minute {
				t.Fatalf("after cuts at %d bytes: heard at %v, %v", at, heard, err)
			}
		}
		if n := root.rotations("ship1"); n < 15 {
			t.Errorf("%d rotations", n)
		}
		d := root.push("app/a", "1", "v1", 10)
		ship.awaitTag("app/a", "v1", d)
	})
}

// An operator's password is never replaced by a rotation that was on its way.
func TestRotationKeepsAnOperatorsNewPassword(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		daily := api.RegistryPut{Settings: api.Settings{
			RotatePasswordEvery: new("P1D"), Schedule: new("0 */6 * * *"), SyncWindow: new("PT1H"),
		}}
		ship := root.connect("ship1", daily)
		cabin := ship.connect("cabin1", daily)
		time.Sleep(time.Minute)
		root.link.cut() // the request of cabin1 waits at ship1
		time.Sleep(30 * time.Hour)
		made, err := root.control.GenerateCredentials(t.Context(), by, "cabin1",
			api.CredentialsPost{Passwords: []string{api.Password2}})
		if err != nil {
			t.Fatal(err)
		}
		root.link.restore()
		time.Sleep(24 * time.Hour)
		hash := auth.HashPassword(*made.Passwords[1].Value)
		for _, p := range root.passwords("cabin1") {
			if p.Name == api.Password2 && p.Hash != hash {
				t.Error("the operator's password was replaced")
			}
		}
		r, err := root.fleet.Get(t.Context(), by, "cabin1")
		if err != nil || len(r.StatusDetails) != 1 || r.StatusDetails[0].Code != wire.RotationWaits {
			t.Errorf("details %+v, %v", r.StatusDetails, err)
		}
		given := cabin.connection
		given.Password = *made.Passwords[1].Value
		if state := cabin.agent.SetConnection(t.Context(), given); state != credential.Accepted {
			t.Errorf("the new password is %v", state)
		}
		time.Sleep(30 * time.Hour)
		if n := root.rotations("cabin1"); n == 0 {
			t.Error("the rotation does not go on once the site uses the operator's password")
		}
	})
}

func TestDisabledSyncTokenCutsARegistryOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ship, image := newPair(t, 10)
		time.Sleep(10 * time.Second) // a poll is held
		root.setStatus("ship1", api.Disabled)
		synctest.Wait()
		s := ship.agent.Status()
		if len(s.Details) != 1 || s.Details[0].Code != wire.ParentRefuses {
			t.Errorf("details at once: %+v", s.Details)
		}
		d := root.push("app/a", "2", "v2", 10)
		time.Sleep(2 * time.Hour)
		if !ship.serves("app/a", "v1", image) || !ship.serves("app/a", "v2", "") {
			t.Error("it does not go on serving what it had, or it got more")
		}
		r, err := root.fleet.Get(t.Context(), by, "ship1")
		if err != nil || len(r.StatusDetails) != 1 || r.StatusDetails[0].Code != wire.ParentRefuses ||
			!strings.Contains(r.StatusDetails[0].Description, "disabled") {
			t.Errorf("at the root: %+v, %v", r.StatusDetails, err)
		}
		root.setStatus("ship1", api.Enabled)
		time.Sleep(time.Minute)
		if !ship.serves("app/a", "v2", d) {
			t.Error("it does not go on within a minute")
		}
		r, err = root.fleet.Get(t.Context(), by, "ship1")
		if err != nil || len(r.StatusDetails) > 0 || r.LastRefusedLogin == nil {
			t.Errorf("afterwards: %+v, %v, %v", r.StatusDetails, r.LastRefusedLogin, err)
		}
	})
}

// join returns the connection string of a connected registry with a join token.
func (s *instance) join(name, validFor string) wire.ConnectionString {
	s.T.Helper()
	v, err := s.fleet.InstanceSettings(s.T.Context(), by, name,
		api.SettingsPost{ParentProtocol: "http", JoinFor: validFor})
	if err != nil {
		s.T.Fatal(err)
	}
	c, err := wire.ParseConnectionString(strings.Replace(v.ConnectionString, "<parent gateway endpoint>", "parent", 1))
	if err != nil || c.JoinToken == "" || c.Password != "" {
		s.T.Fatalf("%v %v", c, err)
	}
	return c
}

func TestJoinTokenIsExchangedAtEveryLevel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		root.connectedRegistry("ship1", api.RegistryPut{})
		ship := root.child("ship1")
		root.start(ship, root.join("ship1", "PT1H"))
		d := root.push("app/a", "1", "v1", 10)
		ship.awaitTag("app/a", "v1", d)

		root.connectedRegistry("cabin1", api.RegistryPut{Parent: "ship1"})
		time.Sleep(time.Minute)
		root.link.cut() // ship1 is offline when the token is made
		c := root.join("cabin1", "PT24H")
		cabin := ship.child("cabin1")
		stop := ship.start(cabin, c)
		time.Sleep(10 * time.Minute)
		if !cabin.serves("app/a", "v1", "") {
			t.Fatal("cabin1 joined before its parent could hear of the token")
		}
		root.link.restore()
		time.Sleep(3 * time.Minute)
		cabin.awaitTag("app/a", "v1", d)
		stop()
		if used := root.control.State().Registry("cabin1").Settings.Join; used.UsedBy != cabin.control.InstanceID() {
			t.Errorf("the root knows the user as %q", used.UsedBy)
		}
		stop = ship.start(cabin, c) // the same string, after a restart
		e := root.push("app/a", "2", "v2", 10)
		cabin.awaitTag("app/a", "v2", e)
		stop()

		second := ship.child("cabin1")
		ship.start(second, c)
		time.Sleep(time.Hour)
		if !second.serves("app/a", "v1", "") ||
			!strings.Contains(second.log.String(), "the join token is unknown, expired or already used") {
			t.Error("a second instance joined")
		}
		if secret := c.JoinToken; strings.Contains(root.log.String()+ship.log.String()+second.log.String(), secret) {
			t.Error("a log has the join token")
		}
	})
}

func TestParentWithoutALinkExchangesAJoinToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ship, image := newPair(t, 10)
		root.connectedRegistry("cabin1", api.RegistryPut{Parent: "ship1"})
		c := root.join("cabin1", "PT24H")
		time.Sleep(time.Minute)
		root.link.cut()
		cabin := ship.child("cabin1")
		ship.start(cabin, c)
		cabin.awaitTag("app/a", "v1", image)
		ship.restart() // it remembers the exchange
		second := ship.child("cabin1")
		ship.start(second, c)
		time.Sleep(time.Hour)
		if !second.serves("app/a", "v1", "") {
			t.Error("a second instance joined")
		}
		root.link.restore()
		d := root.push("app/a", "2", "v2", 10)
		cabin.awaitTag("app/a", "v2", d)
		time.Sleep(5 * time.Minute)
		if used := root.control.State().Registry("cabin1").Settings.Join; used.UsedBy != cabin.control.InstanceID() {
			t.Errorf("the root knows the user as %q", used.UsedBy)
		}
		for _, p := range ship.passwords("cabin1") {
			if p.Name != api.Password1 && p.Name != api.Password2 {
				t.Errorf("ship1 still has %+v", p)
			}
		}
		time.Sleep(time.Minute)
		e := root.push("app/a", "3", "v3", 10)
		cabin.awaitTag("app/a", "v3", e)
	})
}

func TestExpiredJoinTokenIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		root.connectedRegistry("ship1", api.RegistryPut{})
		c := root.join("ship1", "PT1H")
		time.Sleep(time.Hour)
		ship := root.child("ship1")
		root.start(ship, c)
		time.Sleep(time.Hour)
		if ship.agent.Status().SyncState != "NotActivated" {
			t.Error("it joined")
		}
		ship.agent.SetConnection(t.Context(), root.join("ship1", "PT1H"))
		time.Sleep(time.Minute)
		if ship.agent.Status().SyncState == "NotActivated" {
			t.Error("it does not join with a new token")
		}
	})
}

func TestAnnouncementOverPlainHTTPIsIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		root.announced.Store(new("elsewhere.example"))
		c := root.connectedRegistry("ship1", api.RegistryPut{})
		ship := root.child("ship1")
		var elsewhere atomic.Bool
		root.startAt(ship, c, func(ctx context.Context, _, address string) (net.Conn, error) {
			if strings.HasPrefix(address, "elsewhere") {
				elsewhere.Store(true)
			}
			return root.link.dial(ctx)
		})
		d := root.push("app/a", "1", "v1", 10)
		ship.awaitTag("app/a", "v1", d)
		root.link.cut()
		time.Sleep(time.Hour)
		if elsewhere.Load() {
			t.Error("the registry follows an announcement that anybody may have sent")
		}
	})
}

func TestAnnouncedAddressEndsAHeldPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ship, _ := newPair(t, 10)
		time.Sleep(10 * time.Second) // a poll is held
		before := len(ship.polls.all())
		root.announced.Store(new("elsewhere.example"))
		root.control.Wake()
		synctest.Wait()
		all := ship.polls.all()
		if len(all) == before || all[before].answer.Desired == nil ||
			all[before].answer.Desired.ParentEndpoint != "elsewhere.example" {
			t.Errorf("%d polls were answered, and then %d", before, len(all))
		}
		before = len(all)
		root.control.Wake() // nothing changed
		synctest.Wait()
		if n := len(ship.polls.all()); n != before {
			t.Errorf("%d polls were answered without a change", n-before)
		}
	})
}
