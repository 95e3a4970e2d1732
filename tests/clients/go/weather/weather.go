// Command weather uses what etcd's Go client offers, for a while, on nodes that somebody kills meanwhile:
//
//	weather SECONDS HOST:PORT...
//
// It prints what it did as JSON, and ends with 1 and the reasons where a promise was broken. A call that failed may
// have been carried out; nothing else is forgiven.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/etcd/clientv3"
	"go.etcd.io/etcd/clientv3/concurrency"
	"go.etcd.io/etcd/clientv3/leasing"
	"go.etcd.io/etcd/clientv3/namespace"
)

const (
	callTimeout = 10 * time.Second
	endTimeout  = 90 * time.Second
	ttlS        = 60 // far longer than an election, on any machine
	password    = "correct horse battery"
)

var (
	endpoints []string
	begun     = context.Background()
	over      context.Context // done when all that writes is to end

	mu      sync.Mutex
	done    = map[string]int{}
	failed  = map[string]int{}
	reasons []string
	tasks   sync.WaitGroup
)

func broken(format string, a ...interface{}) {
	mu.Lock()
	defer mu.Unlock()
	reasons = append(reasons, fmt.Sprintf(format, a...))
}

// try makes one call; what becomes of it is counted.
func try(what string, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(begun, callTimeout)
	defer cancel()
	err := call(ctx)
	mu.Lock()
	defer mu.Unlock()
	if err != nil {
		failed[what]++
	} else {
		done[what]++
	}
	return err
}

// must asks until it is answered, as it is once nobody kills any more.
func must(what string, call func(context.Context) error) {
	for until := time.Now().Add(endTimeout); ; time.Sleep(200 * time.Millisecond) {
		err := try(what, call)
		if err == nil {
			return
		}
		if time.Now().After(until) {
			broken("%s: %v", what, err)
			return
		}
	}
}

func dial(user string) *clientv3.Client {
	config := clientv3.Config{
		Endpoints:            endpoints,
		DialTimeout:          callTimeout,
		DialKeepAliveTime:    2 * time.Second,
		DialKeepAliveTimeout: 2 * time.Second,
		Username:             user,
	}
	if user != "" {
		config.Password = password
	}
	c, err := clientv3.New(config)
	if err != nil {
		broken("cannot reach the nodes: %v", err)
		finish()
	}
	return c
}

func meanwhile(task func()) {
	tasks.Add(1)
	go func() {
		defer tasks.Done()
		task()
	}()
}

func value(got *clientv3.GetResponse) int {
	if len(got.Kvs) == 0 {
		return 0
	}
	n, err := strconv.Atoi(string(got.Kvs[0].Value))
	if err != nil {
		broken("%s is no number: %q", got.Kvs[0].Key, got.Kvs[0].Value)
	}
	return n
}

func main() {
	seconds, err := strconv.Atoi(os.Args[1])
	if err != nil {
		panic(err)
	}
	endpoints = os.Args[2:]
	var cancel context.CancelFunc
	over, cancel = context.WithTimeout(begun, time.Duration(seconds)*time.Second)
	defer cancel()
	listening, end := context.WithCancel(begun)
	c := dial("")
	counters := []*counter{{key: "locked"}, {key: "led"}}
	for i := 0; i < 3; i++ {
		who, mine := fmt.Sprint("candidate ", i), dial("")
		meanwhile(func() { locks(mine, counters[0]) })
		meanwhile(func() { elections(mine, who, counters[1]) })
	}
	for name := range levels {
		name, count := name, &counter{key: "stm/" + name}
		meanwhile(func() { transactions(dial(""), name, count) })
		if name != "committed" { // which promises nothing: it may read what a follower has not heard of yet
			counters = append(counters, count)
			meanwhile(func() { transactions(dial(""), name, count) })
		}
	}
	heard := &history{put: map[int64]string{}, heard: map[int64]string{}}
	spaced := namespace.NewKV(c.KV, "space/")
	var copied sync.Map
	go heard.hears(listening, namespace.NewWatcher(dial("").Watcher, "space/"))
	go mirrored(listening, dial(""), "space/", &copied)
	meanwhile(func() { heard.writes(spaced) })
	meanwhile(func() { observes(dial("")) })
	meanwhile(func() { keptAlive(dial("")) })
	meanwhile(func() { maintained(dial("")) })
	meanwhile(func() { ordered(dial("")) })
	meanwhile(func() {
		for i := 0; over.Err() == nil; i++ {
			try("put", func(ctx context.Context) error { _, err := c.Put(ctx, "ordered", strconv.Itoa(i)); return err })
		}
	})
	one, _, err := leasing.NewKV(dial(""), "leases/", concurrency.WithTTL(ttlS))
	if err != nil {
		broken("leasing: %v", err)
		finish()
	}
	other, _, err := leasing.NewKV(dial(""), "leases/", concurrency.WithTTL(ttlS))
	if err != nil {
		broken("leasing: %v", err)
		finish()
	}
	meanwhile(func() { leased(one, other) })

	tasks.Wait()
	fmt.Println("over") // so that nobody kills any more
	for _, count := range counters {
		count.check(c)
	}
	kept := heard.check(spaced)
	must("mirror", func(context.Context) error {
		for key, value := range kept {
			if got, _ := copied.Load(key); got != value {
				return fmt.Errorf("%s is %v and not %s", key, got, value)
			}
		}
		return nil
	})
	end()
	compared(c)
	users(c)
	finish()
}

func finish() {
	mu.Lock()
	json.NewEncoder(os.Stdout).Encode(map[string]interface{}{"done": done, "failed": failed, "broken": reasons})
	if len(reasons) > 0 {
		os.Exit(1)
	}
	os.Exit(0)
}
