package catalog

import (
	"errors"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/realm"
)

// ErrUnknownCommand means that a newer version wrote the command. Whoever
// skipped it would differ from the others: the replica must stop.
var ErrUnknownCommand = errors.New("catalog: command of a newer version; upgrade this server")

// errUndecodable means that bytes are no command of any version. Every replica
// skips them alike.
var errUndecodable = errors.New("not a command")

// Found records the core servers and the id that they drew when the realm
// formed. Repeating it is harmless; another id is refused.
type Found struct {
	RealmID [16]byte
	Core    []CoreServer // replica n of the realm group is at Core[n-1]
}

// CoreServer is a member of the realm group.
type CoreServer struct {
	Name string
	Peer string // address for other servers
}

// Apply makes a document the newest revision.
type Apply struct {
	Document []byte
	File     string // for messages
	Expected uint64 // with Check: the revision that must be the newest
	Check    bool
}

// Register says where a server is. Its id is given by its name.
type Register struct{ Server Server }

// Server is a server as the realm knows it.
type Server struct {
	ID     uint64
	Name   string
	Client string // address for clients
	Peer   string // address for other servers
	Ops    string // address for operators
	Region string
	Core   bool
}

// Claim takes a replica id for the data directory that drew Tag. The first
// claim of an id wins; the same one again is harmless; another is refused.
type Claim struct {
	Cluster uint64 // or RealmGroup
	Replica uint64
	Server  uint64 // id
	Tag     uint64 // random, kept in the data directory; not 0
}

// Encode returns the command for the log.
func (c Found) Encode() []byte {
	found := &statepb.CatalogFound{RealmId: c.RealmID[:]}
	for _, s := range c.Core {
		found.Core = append(found.Core, &statepb.CatalogCore{Name: s.Name, Peer: s.Peer})
	}
	return encode(&statepb.CatalogCommand{Command: &statepb.CatalogCommand_Found{Found: found}})
}

// Encode reads the document and returns the command for the log. If the
// document is not valid the error is a *realm.Problems, and nothing is to be
// proposed. Reading is done here, before the log, because it can take long
// (some documents cost time with the square of their length) and because its
// rules may change from version to version, which state must not notice.
func (c Apply) Encode() ([]byte, error) {
	r, err := realm.Parse(c.File, c.Document)
	if err != nil {
		return nil, err
	}
	return encode(&statepb.CatalogCommand{Command: &statepb.CatalogCommand_Apply{Apply: &statepb.CatalogApply{
		Document: c.Document, File: strings.ToValidUTF8(c.File, "?"), ExpectedRevision: c.Expected, Check: c.Check,
		Definition: definitionPage(r),
	}}}), nil
}

// Encode returns the command for the log.
func (c Register) Encode() []byte {
	s := c.Server
	s.ID = 0
	return encode(&statepb.CatalogCommand{Command: &statepb.CatalogCommand_Register{Register: &statepb.CatalogRegister{Server: s.page()}}})
}

// Encode returns the command for the log.
func (c Claim) Encode() []byte {
	return encode(&statepb.CatalogCommand{Command: &statepb.CatalogCommand_Claim{Claim: &statepb.CatalogClaim{
		Cluster: c.Cluster, Replica: c.Replica, Server: c.Server, Tag: c.Tag,
	}}})
}

func (s Server) page() *statepb.CatalogServer {
	return &statepb.CatalogServer{
		Id: s.ID, Name: s.Name, Client: s.Client, Peer: s.Peer,
		Ops: s.Ops, Region: s.Region, Core: s.Core,
	}
}

func serverOf(p *statepb.CatalogServer) Server {
	return Server{
		ID: p.GetId(), Name: p.GetName(), Client: p.GetClient(), Peer: p.GetPeer(),
		Ops: p.GetOps(), Region: p.GetRegion(), Core: p.GetCore(),
	}
}

// encode writes a message so that equal messages give equal bytes. The messages
// of this package have no maps, so that holds across versions of the library.
func encode(m proto.Message) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		// Only text that is not UTF-8 can fail. A command with no bytes is
		// answered as undecodable.
		return nil
	}
	return b
}

// decode reads a command. Errors are errUndecodable or ErrUnknownCommand.
func decode(b []byte) (*statepb.CatalogCommand, error) {
	c := &statepb.CatalogCommand{}
	if proto.Unmarshal(b, c) != nil {
		// The library's own words differ from build to build, results must not.
		return nil, errUndecodable
	}
	if newer(c.ProtoReflect()) {
		return nil, ErrUnknownCommand
	}
	if c.GetCommand() == nil {
		return nil, errUndecodable
	}
	return c, nil
}

// newer reports whether m or a message in it has fields that this version does
// not know.
func newer(m protoreflect.Message) bool {
	found := len(m.GetUnknown()) > 0
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				found = found || newer(v.List().Get(i).Message())
			}
		default:
			found = found || newer(v.Message())
		}
		return !found
	})
	return found
}
