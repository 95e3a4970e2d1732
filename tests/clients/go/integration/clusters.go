// Package integration stands in the place of etcd's package of this name, which runs etcd within the tests' process.
// Here the tests of etcd's Go client are given nodes that run elsewhere: RAFTKV_CLUSTERS is the URL of who starts, kills
// and revives them (clusters.py). A test that wants of a server what nobody outside can give it is skipped.
package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/clientv3"
	"go.etcd.io/etcd/etcdserver"
	"go.etcd.io/etcd/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/etcdserver/api/v3lock/v3lockpb"
	pb "go.etcd.io/etcd/etcdserver/etcdserverpb"
	"go.etcd.io/etcd/pkg/transport"
	"go.etcd.io/etcd/pkg/types"

	"google.golang.org/grpc"
)

const (
	// RequestWaitTimeout is how long a call may go on looking for a leader.
	RequestWaitTimeout = 4 * time.Second
	tickDuration       = 10 * time.Millisecond
	requestTimeout     = 20 * time.Second
	defaultTokenJWT    = "jwt"
)

var (
	electionTicks                                                        = 10
	testTLSInfo, testTLSInfoIP, testTLSInfoExpired, testTLSInfoExpiredIP transport.TLSInfo

	sockets int64
	// Without connections that stay, since the tests count what goes on after them.
	caller = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
)

// ClusterConfig is what tests say of the cluster that they want.
type ClusterConfig struct {
	Size                        int
	PeerTLS, ClientTLS          *transport.TLSInfo
	DiscoveryURL                string
	AuthToken                   string
	AuthTokenTTL                uint
	UseGRPC                     bool
	QuotaBackendBytes           int64
	MaxTxnOps                   uint
	MaxRequestBytes             uint
	SnapshotCount               uint64
	SnapshotCatchUpEntries      uint64
	GRPCKeepAliveMinTime        time.Duration
	GRPCKeepAliveInterval       time.Duration
	GRPCKeepAliveTimeout        time.Duration
	SkipCreatingClient          bool
	ClientMaxCallSendMsgSize    int
	ClientMaxCallRecvMsgSize    int
	UseIP                       bool
	EnableLeaseCheckpoint       bool
	LeaseCheckpointInterval     time.Duration
	LeaseCheckpointPersist      bool
	WatchProgressNotifyInterval time.Duration
	CorruptCheckTime            time.Duration
}

func (c *ClusterConfig) lacking() string {
	switch {
	case c.PeerTLS != nil || c.ClientTLS != nil:
		return "certificates of its own"
	case c.AuthToken != "" || c.AuthTokenTTL != 0:
		return "another kind of token"
	case c.QuotaBackendBytes != 0:
		return "a quota"
	case c.MaxTxnOps != 0 || c.MaxRequestBytes != 0:
		return "other limits"
	}
	return ""
}

type cluster struct {
	cfg     *ClusterConfig
	Members []*member
	url     string
}

// NewClusterByConfig is a cluster that does not run yet.
func NewClusterByConfig(t testing.TB, cfg *ClusterConfig) *cluster {
	if lacking := cfg.lacking(); lacking != "" {
		t.Skip("wants " + lacking)
	}
	c := &cluster{cfg: cfg}
	for i := 0; i < cfg.Size; i++ {
		m := &member{cluster: c, index: i, stopped: make(chan struct{})}
		m.ServerConfig.TickMs, m.ServerConfig.ElectionTicks = 100, electionTicks
		m.clientMaxCallSendMsgSize, m.clientMaxCallRecvMsgSize = cfg.ClientMaxCallSendMsgSize, cfg.ClientMaxCallRecvMsgSize
		c.Members = append(c.Members, m)
	}
	return c
}

type started struct {
	URL   string
	Nodes []struct {
		At, Peer string
		ID       uint64 `json:",string"`
	}
}

// Launch returns when all members serve.
func (c *cluster) Launch(t testing.TB) {
	var told started
	call(t, os.Getenv("RAFTKV_CLUSTERS"), map[string]int{"size": c.cfg.Size}, &told)
	c.url = told.URL
	for i, m := range c.Members {
		m.at, m.s.id = told.Nodes[i].At, types.ID(told.Nodes[i].ID)
		m.ServerConfig.PeerURLs = types.MustNewURLs([]string{"http://" + told.Nodes[i].Peer})
		m.listen(t)
	}
}

func call(t testing.TB, url string, body, answer interface{}) {
	said, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	told, err := caller.Post(url, "application/json", bytes.NewReader(said))
	if err != nil {
		panic(err)
	}
	defer told.Body.Close()
	content, err := io.ReadAll(told.Body)
	if err != nil || told.StatusCode != http.StatusOK {
		panic(fmt.Sprintf("%s: %v %s", url, err, content))
	}
	if err := json.Unmarshal(content, answer); err != nil {
		panic(err)
	}
}

func (c *cluster) do(t testing.TB, what string, node int) int {
	var answer int
	call(t, c.url, map[string]interface{}{"do": what, "node": node}, &answer)
	return answer
}

// Terminate ends all members.
func (c *cluster) Terminate(t testing.TB) {
	for _, m := range c.Members {
		m.close()
	}
	if c.url != "" {
		c.do(t, "end", 0)
	}
}

// WaitLeader is the member that leads, once one does.
func (c *cluster) WaitLeader(t testing.TB) int { return c.waitLeader(t, c.Members) }

func (c *cluster) waitLeader(t testing.TB, members []*member) int {
	for {
		leader := c.do(t, "leader", 0)
		for i, m := range members {
			if m.index == leader {
				return i
			}
		}
		time.Sleep(10 * tickDuration)
	}
}

func (c *cluster) AddMember(t testing.TB)               { t.Skip("wants another member") }
func (c *cluster) RemoveMember(t testing.TB, id uint64) { t.Skip("wants a member less") }

type server struct {
	id types.ID
}

func (s *server) ID() types.ID { return s.id }

type member struct {
	etcdserver.ServerConfig
	ClientTLSInfo *transport.TLSInfo
	DialOptions   []grpc.DialOption

	s                                                  server
	cluster                                            *cluster
	index                                              int
	at, grpcAddr                                       string
	gate                                               net.Listener
	grpcBridge                                         *bridge
	conns                                              sync.Map
	stopped                                            chan struct{}
	clientMaxCallSendMsgSize, clientMaxCallRecvMsgSize int
}

// listen opens what clients reach the node by: etcd's own bridge, and behind it a way from the bridge to the node.
func (m *member) listen(t testing.TB) {
	if m.grpcAddr == "" {
		m.Name = fmt.Sprintf("%05d%05d", 21000+atomic.AddInt64(&sockets, 1), os.Getpid())
	}
	inner := "localhost:" + m.Name
	gate, err := transport.NewUnixListener(inner)
	if err != nil {
		panic(err)
	}
	m.gate = gate
	if m.grpcBridge, err = newBridge(inner); err != nil {
		panic(err)
	}
	m.grpcAddr = "unix://" + m.grpcBridge.inaddr
	go func() {
		for {
			in, err := gate.Accept()
			if err != nil {
				return
			}
			go m.forward(in)
		}
	}()
}

func (m *member) forward(in net.Conn) {
	defer in.Close()
	out, err := net.Dial("tcp", m.at)
	if err != nil {
		return
	}
	defer out.Close()
	m.conns.Store(in, nil)
	defer m.conns.Delete(in)
	go func() {
		io.Copy(out, in)
		out.Close()
	}()
	io.Copy(in, out)
}

func (m *member) close() {
	if m.grpcBridge != nil {
		m.grpcBridge.Close()
		m.gate.Close()
		m.conns.Range(func(conn, _ interface{}) bool {
			conn.(net.Conn).Close()
			return true
		})
		m.grpcBridge = nil
	}
}

func (m *member) GRPCAddr() string { return m.grpcAddr }
func (m *member) URL() string      { return "http://" + m.at }
func (m *member) ID() types.ID     { return m.s.id }
func (m *member) ElectionTimeout() time.Duration {
	return time.Duration(electionTicks) * 100 * time.Millisecond
}
func (m *member) DropConnections()             { m.grpcBridge.Reset() }
func (m *member) PauseConnections()            { m.grpcBridge.Pause() }
func (m *member) UnpauseConnections()          { m.grpcBridge.Unpause() }
func (m *member) Blackhole()                   { m.grpcBridge.Blackhole() }
func (m *member) Unblackhole()                 { m.grpcBridge.Unblackhole() }
func (m *member) WaitOK(t testing.TB)          { m.cluster.do(t, "wait", m.index) }
func (m *member) WaitStarted(t testing.TB)     { m.cluster.do(t, "wait", m.index) }
func (m *member) StopNotify() <-chan struct{}  { return m.stopped }
func (m *member) Launch() error                { panic("no member is added") }
func (m *member) ReadyNotify() <-chan struct{} { panic("no member is added") }

// Stop kills the node; what it keeps stays.
func (m *member) Stop(t testing.TB) {
	m.cluster.do(t, "kill", m.index)
	m.close()
	close(m.stopped)
}

// Terminate ends the node for good.
func (m *member) Terminate(t testing.TB) { m.Stop(t) }

// Restart returns when the node answers.
func (m *member) Restart(t testing.TB) error {
	m.stopped = make(chan struct{})
	m.cluster.do(t, "revive", m.index)
	m.listen(t)
	return nil
}

func (m *member) InjectPartition(t testing.TB, _ ...*member) {
	t.Skip("wants a partition of the members")
}
func (m *member) RecoverPartition(t testing.TB, _ ...*member) {}
func (m *member) Pause()                                      { panic("a process cannot be paused here") }
func (m *member) Resume()                                     {}

func (m *member) Metric(name string) (string, error) {
	told, err := caller.Get(m.URL() + "/metrics")
	if err != nil {
		return "", err
	}
	defer told.Body.Close()
	content, err := io.ReadAll(told.Body)
	for _, line := range strings.Split(string(content), "\n") {
		if words := strings.Fields(line); len(words) == 2 && words[0] == name {
			return words[1], err
		}
	}
	return "", err
}

// ClusterV3 is a cluster with a client of each member.
type ClusterV3 struct {
	*cluster
	mu      sync.Mutex
	clients []*clientv3.Client
}

// NewClusterV3 returns a cluster that runs.
func NewClusterV3(t testing.TB, cfg *ClusterConfig) *ClusterV3 {
	c := &ClusterV3{cluster: NewClusterByConfig(t, cfg)}
	c.Launch(t)
	for _, m := range c.Members {
		if cfg.SkipCreatingClient {
			break
		}
		client, err := NewClientV3(m)
		if err != nil {
			t.Fatalf("cannot create client: %v", err)
		}
		c.clients = append(c.clients, client)
	}
	return c
}

// NewClientV3 is a client of one member.
func NewClientV3(m *member) (*clientv3.Client, error) {
	return newClientV3(clientv3.Config{
		Endpoints:          []string{m.grpcAddr},
		DialTimeout:        5 * time.Second,
		DialOptions:        append([]grpc.DialOption{grpc.WithBlock()}, m.DialOptions...),
		MaxCallSendMsgSize: m.clientMaxCallSendMsgSize,
		MaxCallRecvMsgSize: m.clientMaxCallRecvMsgSize,
	})
}

// TakeClient leaves it to the test to close a client.
func (c *ClusterV3) TakeClient(idx int) {
	c.mu.Lock()
	c.clients[idx] = nil
	c.mu.Unlock()
}

// Terminate closes what clients there are, and ends all members.
func (c *ClusterV3) Terminate(t testing.TB) {
	c.mu.Lock()
	for _, client := range c.clients {
		if client != nil {
			if err := client.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	c.mu.Unlock()
	c.cluster.Terminate(t)
}

func (c *ClusterV3) RandClient() *clientv3.Client           { return c.clients[rand.Intn(len(c.clients))] }
func (c *ClusterV3) Client(i int) *clientv3.Client          { return c.clients[i] }
func (c *ClusterV3) AddAndLaunchLearnerMember(t testing.TB) { t.Skip("wants a learner") }

func (c *ClusterV3) GetLearnerMembers() ([]*pb.Member, error) { panic("there are no learners") }

func (c *ClusterV3) MustNewMember(t testing.TB, _ *clientv3.MemberAddResponse) *member {
	t.Skip("wants another member")
	return nil
}

// WaitClientV3 returns when the client is answered.
func WaitClientV3(t testing.TB, kv clientv3.KV) {
	until := time.Now().Add(requestTimeout)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
		_, err := kv.Get(ctx, "/")
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("timed out waiting for client: %v", err)
		}
		time.Sleep(tickDuration)
	}
}

type grpcAPI struct {
	Cluster     pb.ClusterClient
	KV          pb.KVClient
	Lease       pb.LeaseClient
	Watch       pb.WatchClient
	Maintenance pb.MaintenanceClient
	Auth        pb.AuthClient
	Lock        v3lockpb.LockClient
	Election    v3electionpb.ElectionClient
}
