package main

// What is used, and what it promises.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/etcd/clientv3"
	"go.etcd.io/etcd/clientv3/concurrency"
	"go.etcd.io/etcd/clientv3/mirror"
	"go.etcd.io/etcd/clientv3/ordering"
	"go.etcd.io/etcd/etcdserver/api/v3rpc/rpctypes"
)

// counter is a key that is counted up, and how often that was acknowledged, or may have been done.
type counter struct {
	key          string
	acknowledged int
	uncertain    int
	sync.Mutex
}

func (c *counter) told(err error) {
	c.Lock()
	defer c.Unlock()
	if err == nil {
		c.acknowledged++
	} else {
		c.uncertain++
	}
}

func (c *counter) check(kv clientv3.KV) {
	must("get", func(ctx context.Context) error {
		got, err := kv.Get(ctx, c.key)
		if err == nil {
			if n := value(got); n < c.acknowledged || n > c.acknowledged+c.uncertain {
				broken("%s is %d after %d acknowledged and %d uncertain", c.key, n, c.acknowledged, c.uncertain)
			}
		}
		return err
	})
}

var levels = map[string]concurrency.Isolation{
	"snapshot":     concurrency.SerializableSnapshot,
	"serializable": concurrency.Serializable,
	"repeatable":   concurrency.RepeatableReads,
	"committed":    concurrency.ReadCommitted,
}

// transactions counts up two keys at once.
func transactions(c *clientv3.Client, name string, count *counter) {
	other := count.key + "/too"
	for over.Err() == nil {
		var torn error
		err := try("stm "+name, func(ctx context.Context) error {
			_, err := concurrency.NewSTM(c, func(stm concurrency.STM) error {
				n, m := stm.Get(count.key), stm.Get(other)
				if n != m && (name == "snapshot" || name == "serializable") {
					torn = fmt.Errorf("%s is %s and its twin %s", count.key, n, m)
					return torn
				}
				value, _ := strconv.Atoi(n)
				stm.Put(count.key, strconv.Itoa(value+1))
				stm.Put(other, strconv.Itoa(value+1))
				return nil
			}, concurrency.WithIsolation(levels[name]), concurrency.WithAbortContext(ctx))
			return err
		})
		if torn != nil {
			broken("%v", torn)
		}
		count.told(err)
	}
}

// guarded counts up while the key of a lock or an election stands, as whoever holds it would write.
func guarded(c *clientv3.Client, what string, count *counter, holds clientv3.Cmp) {
	var n int
	if try("get", func(ctx context.Context) error {
		got, err := c.Get(ctx, count.key)
		if err == nil {
			n = value(got)
		}
		return err
	}) != nil {
		return
	}
	var is bool
	err := try(what, func(ctx context.Context) error {
		put := clientv3.OpPut(count.key, strconv.Itoa(n+1))
		answer, err := c.Txn(ctx).If(holds).Then(put).Commit()
		is = err == nil && answer.Succeeded
		return err
	})
	if err != nil || is {
		count.told(err)
	}
}

func sessions(c *clientv3.Client, use func(*concurrency.Session)) {
	for over.Err() == nil {
		session, err := concurrency.NewSession(c, concurrency.WithTTL(ttlS))
		if err != nil {
			continue
		}
		for over.Err() == nil {
			select {
			case <-session.Done():
			default:
				use(session)
				continue
			}
			break
		}
		session.Close()
	}
}

func locks(c *clientv3.Client, count *counter) {
	sessions(c, func(session *concurrency.Session) {
		mutex := concurrency.NewMutex(session, "lock")
		if try("lock", mutex.Lock) == nil {
			guarded(c, "locked", count, mutex.IsOwner())
		}
		must("unlock", mutex.Unlock)
	})
}

func elections(c *clientv3.Client, who string, count *counter) {
	sessions(c, func(session *concurrency.Session) {
		election := concurrency.NewElection(session, "election")
		if try("campaign", func(ctx context.Context) error { return election.Campaign(ctx, who) }) == nil {
			try("proclaim", func(ctx context.Context) error { return election.Proclaim(ctx, who+" leads") })
			holds := clientv3.Compare(clientv3.CreateRevision(election.Key()), "=", election.Rev())
			guarded(c, "led", count, holds)
		}
		must("resign", election.Resign)
	})
}

func observes(c *clientv3.Client) {
	for over.Err() == nil {
		session, err := concurrency.NewSession(c, concurrency.WithTTL(ttlS))
		if err != nil {
			continue
		}
		for range concurrency.NewElection(session, "election").Observe(over) {
			try("observed", func(context.Context) error { return nil })
		}
		session.Close()
	}
}

// history is what was put, and what of it was heard: keys by the revision that each has.
type history struct {
	put, heard map[int64]string
	last       int64
	sync.Mutex
}

func (h *history) writes(kv clientv3.KV) {
	for i := 0; over.Err() == nil; i++ {
		key := fmt.Sprintf("key %06d", i)
		try("put", func(ctx context.Context) error {
			put, err := kv.Put(ctx, key, strconv.Itoa(i))
			if err == nil {
				h.Lock()
				h.put[put.Header.Revision] = key
				h.Unlock()
			}
			return err
		})
	}
}

// hears resumes by itself, which is the client's doing, and after it was told that there is no leader.
func (h *history) hears(ctx context.Context, watcher clientv3.Watcher) {
	for ctx.Err() == nil {
		from := clientv3.WithRev(h.last + 1)
		for answer := range watcher.Watch(clientv3.WithRequireLeader(ctx), "key ", clientv3.WithPrefix(), from) {
			if err := answer.Err(); err != nil && err != rpctypes.ErrNoLeader && ctx.Err() == nil {
				broken("watch: %v", err)
			}
			h.Lock()
			for _, event := range answer.Events {
				if event.Kv.ModRevision <= h.last {
					broken("watch: revision %d after %d", event.Kv.ModRevision, h.last)
				}
				h.last = event.Kv.ModRevision
				h.heard[h.last] = string(event.Kv.Key)
			}
			h.Unlock()
		}
	}
}

func (h *history) check(kv clientv3.KV) map[string]string {
	kept := map[string]string{}
	must("get", func(ctx context.Context) error {
		got, err := kv.Get(ctx, "key ", clientv3.WithPrefix())
		if err != nil {
			return err
		}
		h.Lock()
		defer h.Unlock()
		if len(h.heard) < len(got.Kvs) {
			return errors.New("not all was heard yet")
		}
		if len(h.heard) > len(got.Kvs) {
			broken("watch: %d changes of %d", len(h.heard), len(got.Kvs))
		}
		revisions := map[int64]string{}
		for _, one := range got.Kvs {
			kept[string(one.Key)] = string(one.Value)
			revisions[one.ModRevision] = string(one.Key)
			if h.heard[one.ModRevision] != string(one.Key) {
				broken("watch: not %s at %d, but %q", one.Key, one.ModRevision, h.heard[one.ModRevision])
			}
		}
		for revision, key := range h.put {
			if revisions[revision] != key {
				broken("%s was acknowledged at %d and is not there", key, revision)
			}
		}
		return nil
	})
	return kept
}

// mirrored is the copy that a syncer makes.
func mirrored(ctx context.Context, c *clientv3.Client, prefix string, copied *sync.Map) {
	for ctx.Err() == nil {
		syncer := mirror.NewSyncer(c, prefix, 0)
		base, errs := syncer.SyncBase(ctx)
		for got := range base {
			for _, one := range got.Kvs {
				copied.Store(string(one.Key)[len(prefix):], string(one.Value))
			}
		}
		if <-errs != nil {
			continue
		}
		for answer := range syncer.SyncUpdates(ctx) {
			for _, event := range answer.Events {
				copied.Store(string(event.Kv.Key)[len(prefix):], string(event.Kv.Value))
			}
		}
	}
}

// ordered reads from whatever node, and never an older value than before.
func ordered(c *clientv3.Client) {
	kv, last := ordering.NewKV(c.KV, ordering.NewOrderViolationSwitchEndpointClosure(c)), 0
	for over.Err() == nil {
		try("ordered", func(ctx context.Context) error {
			got, err := kv.Get(ctx, "ordered", clientv3.WithSerializable())
			if err == nil {
				if n := value(got); n < last {
					broken("ordered: %d after %d", n, last)
				} else {
					last = n
				}
			}
			return err
		})
		time.Sleep(20 * time.Millisecond)
	}
}

// leased puts with one client what another remembers, which is never older than what was acknowledged before.
func leased(kv clientv3.KV, remembers clientv3.KV) {
	for i, acknowledged := 1, 0; over.Err() == nil; i++ {
		if try("leased put", func(ctx context.Context) error {
			_, err := kv.Put(ctx, "leased", strconv.Itoa(i))
			return err
		}) == nil {
			acknowledged = i
		}
		for repeat := 0; repeat < 2; repeat++ {
			try("leased get", func(ctx context.Context) error {
				got, err := remembers.Get(ctx, "leased")
				if err == nil && (value(got) < acknowledged || value(got) > i) {
					broken("leased: %d after %d was acknowledged and %d was tried", value(got), acknowledged, i)
				}
				return err
			})
		}
	}
}

// keptAlive holds a lease from the beginning to the end.
func keptAlive(c *clientv3.Client) {
	var lease clientv3.LeaseID
	must("grant", func(ctx context.Context) error {
		granted, err := c.Grant(ctx, ttlS)
		if err == nil {
			lease = granted.ID
		}
		return err
	})
	must("put", func(ctx context.Context) error {
		_, err := c.Put(ctx, "kept", "alive", clientv3.WithLease(lease))
		return err
	})
	alive, err := c.KeepAlive(begun, lease)
	for ; err == nil && over.Err() == nil; time.Sleep(100 * time.Millisecond) {
		select {
		case _, is := <-alive:
			if !is {
				err = errors.New("given up")
			} else {
				try("kept alive", func(context.Context) error { return nil })
			}
		default:
		}
	}
	if err != nil {
		broken("keep alive: %v", err)
	}
	left := func(many int64) {
		must("get", func(ctx context.Context) error {
			got, err := c.Get(ctx, "kept")
			if err == nil && got.Count != many {
				broken("kept: %d keys instead of %d", got.Count, many)
			}
			return err
		})
	}
	left(1)
	must("revoke", func(ctx context.Context) error {
		_, err := c.Revoke(ctx, lease)
		if err == rpctypes.ErrLeaseNotFound { // the answer to the call before was lost
			return nil
		}
		return err
	})
	left(0)
}

func maintained(c *clientv3.Client) {
	for ; over.Err() == nil; time.Sleep(time.Second) {
		try("snapshot", func(ctx context.Context) error {
			reader, err := c.Snapshot(ctx)
			if err != nil {
				return err
			}
			defer reader.Close()
			_, err = io.Copy(io.Discard, reader)
			return err
		})
		for _, at := range endpoints {
			try("status", func(ctx context.Context) error {
				_, err := c.Status(ctx, at)
				return err
			})
		}
	}
}

// users lets one in to what begins with "own/", at the end, when no one is killed.
func users(c *clientv3.Client) {
	steps := []func(context.Context) error{
		func(ctx context.Context) error { _, err := c.UserAdd(ctx, "root", password); return err },
		func(ctx context.Context) error { _, err := c.RoleAdd(ctx, "root"); return err },
		func(ctx context.Context) error { _, err := c.UserGrantRole(ctx, "root", "root"); return err },
		func(ctx context.Context) error { _, err := c.RoleAdd(ctx, "own"); return err },
		func(ctx context.Context) error {
			readwrite := clientv3.PermissionType(clientv3.PermReadWrite)
			_, err := c.RoleGrantPermission(ctx, "own", "own/", clientv3.GetPrefixRangeEnd("own/"), readwrite)
			return err
		},
		func(ctx context.Context) error { _, err := c.UserAdd(ctx, "alice", password); return err },
		func(ctx context.Context) error { _, err := c.UserGrantRole(ctx, "alice", "own"); return err },
		func(ctx context.Context) error { _, err := c.AuthEnable(ctx); return err },
	}
	for _, step := range steps {
		must("auth", step)
	}
	root, alice := dial("root"), dial("alice")
	must("own put", func(ctx context.Context) error { _, err := alice.Put(ctx, "own/key", "v"); return err })
	err := try("foreign put", func(ctx context.Context) error { _, err := alice.Put(ctx, "key", "v"); return err })
	if err != rpctypes.ErrPermissionDenied {
		broken("alice was told %v", err)
	}
	must("auth", func(ctx context.Context) error { _, err := root.AuthDisable(ctx); return err })
	alice.Close()
	root.Close()
}

func compared(c *clientv3.Client) {
	hashes := map[uint32]bool{}
	var revision int64
	must("get", func(ctx context.Context) error {
		got, err := c.Get(ctx, "kept")
		if err == nil {
			revision = got.Header.Revision
		}
		return err
	})
	for _, at := range endpoints {
		must("hash", func(ctx context.Context) error {
			told, err := c.HashKV(ctx, at, revision)
			if err == nil {
				hashes[told.Hash] = true
			}
			return err
		})
	}
	if len(hashes) != 1 {
		broken("nodes differ at revision %d", revision)
	}
	must("compact", func(ctx context.Context) error { _, err := c.Compact(ctx, revision); return err })
	for _, at := range endpoints {
		must("defragment", func(ctx context.Context) error { _, err := c.Defragment(ctx, at); return err })
	}
}
