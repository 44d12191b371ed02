// Selects of Go's, for bench/py/csp.py.
//
//	select ready N COUNT     one goroutine: send to one of N channels with room for
//	                         one, and select over all N; ns for each such pair
//	select pingpong N COUNT  two goroutines, each with N channels without room; a ball
//	                         goes there and back, sent and received by select; ns for
//	                         each round trip
//
// N is 2 or 64: the select statements are written out, as a program in Go would.
// Goroutines may run on as many processors as Go likes. Prints one number.
package main

import (
	"fmt"
	"os"
	"strconv"
	"time"
)

type channels []chan int

func makeChannels(n, capacity int) channels {
	c := make(channels, n)
	for i := range c {
		c[i] = make(chan int, capacity)
	}
	return c
}

func select2(c channels) int {
	select {
	case v := <-c[0]:
		return v
	case v := <-c[1]:
		return v
	}
}

func select64(c channels) int {
	select {
	case v := <-c[0]:
		return v
	case v := <-c[1]:
		return v
	case v := <-c[2]:
		return v
	case v := <-c[3]:
		return v
	case v := <-c[4]:
		return v
	case v := <-c[5]:
		return v
	case v := <-c[6]:
		return v
	case v := <-c[7]:
		return v
	case v := <-c[8]:
		return v
	case v := <-c[9]:
		return v
	case v := <-c[10]:
		return v
	case v := <-c[11]:
		return v
	case v := <-c[12]:
		return v
	case v := <-c[13]:
		return v
	case v := <-c[14]:
		return v
	case v := <-c[15]:
		return v
	case v := <-c[16]:
		return v
	case v := <-c[17]:
		return v
	case v := <-c[18]:
		return v
	case v := <-c[19]:
		return v
	case v := <-c[20]:
		return v
	case v := <-c[21]:
		return v
	case v := <-c[22]:
		return v
	case v := <-c[23]:
		return v
	case v := <-c[24]:
		return v
	case v := <-c[25]:
		return v
	case v := <-c[26]:
		return v
	case v := <-c[27]:
		return v
	case v := <-c[28]:
		return v
	case v := <-c[29]:
		return v
	case v := <-c[30]:
		return v
	case v := <-c[31]:
		return v
	case v := <-c[32]:
		return v
	case v := <-c[33]:
		return v
	case v := <-c[34]:
		return v
	case v := <-c[35]:
		return v
	case v := <-c[36]:
		return v
	case v := <-c[37]:
		return v
	case v := <-c[38]:
		return v
	case v := <-c[39]:
		return v
	case v := <-c[40]:
		return v
	case v := <-c[41]:
		return v
	case v := <-c[42]:
		return v
	case v := <-c[43]:
		return v
	case v := <-c[44]:
		return v
	case v := <-c[45]:
		return v
	case v := <-c[46]:
		return v
	case v := <-c[47]:
		return v
	case v := <-c[48]:
		return v
	case v := <-c[49]:
		return v
	case v := <-c[50]:
		return v
	case v := <-c[51]:
		return v
	case v := <-c[52]:
		return v
	case v := <-c[53]:
		return v
	case v := <-c[54]:
		return v
	case v := <-c[55]:
		return v
	case v := <-c[56]:
		return v
	case v := <-c[57]:
		return v
	case v := <-c[58]:
		return v
	case v := <-c[59]:
		return v
	case v := <-c[60]:
		return v
	case v := <-c[61]:
		return v
	case v := <-c[62]:
		return v
	case v := <-c[63]:
		return v
	}
}

// The ball to the other side, by a select whose other case is never ready.
func hit(there chan int, never chan int, ball int) {
	select {
	case there <- ball:
	case <-never:
	}
}

func fail(text string) {
	fmt.Fprintln(os.Stderr, text)
	os.Exit(2)
}

func ready(receive func(channels) int, n, count int) {
	c := makeChannels(n, 1)
	for i := 0; i < count; i++ {
		c[i%n] <- i
		if receive(c) != i {
			fail("wrong")
		}
	}
}

func pingpong(receive func(channels) int, n, count int) {
	there, back := makeChannels(n, 0), makeChannels(n, 0)
	never := make(chan int)
	go func() {
		for i := 0; i < count; i++ {
			hit(back[i%n], never, receive(there))
		}
	}()
	for i := 0; i < count; i++ {
		hit(there[i%n], never, i)
		if receive(back) != i {
			fail("wrong")
		}
	}
}

func main() {
	if len(os.Args) != 4 {
		fail("usage: select ready|pingpong 2|64 COUNT")
	}
	n, _ := strconv.Atoi(os.Args[2])
	count, _ := strconv.Atoi(os.Args[3])
	receive := map[int]func(channels) int{2: select2, 64: select64}[n]
	play := map[string]func(func(channels) int, int, int){
		"ready": ready, "pingpong": pingpong}[os.Args[1]]
	if receive == nil || play == nil || count < 1 {
		fail("usage: select ready|pingpong 2|64 COUNT")
	}
	play(receive, n, count/10+1) // warm up
	start := time.Now()
	play(receive, n, count)
	fmt.Println(float64(time.Since(start).Nanoseconds()) / float64(count))
}
