// Commstime with four goroutines, for bench/py/csp.py: a prefix, a delta, a successor
// in a ring, and a consumer.
//
//	commstime COUNT
//
// prints the ns of each number that comes to the consumer, which is four
// communications.
package main

import (
	"fmt"
	"os"
	"strconv"
	"time"
)

func prefix(in <-chan int, out chan<- int) {
	out <- 0
	for v := range in {
		out <- v
	}
}

func delta(in <-chan int, a, b chan<- int) {
	for v := range in {
		a <- v
		b <- v
	}
}

func successor(in <-chan int, out chan<- int) {
	for v := range in {
		out <- v + 1
	}
}

func main() {
	count := 0
	if len(os.Args) == 2 {
		count, _ = strconv.Atoi(os.Args[1])
	}
	if count < 1 {
		fmt.Fprintln(os.Stderr, "usage: commstime COUNT")
		os.Exit(2)
	}
	a, b, c, d := make(chan int), make(chan int), make(chan int), make(chan int)
	go prefix(b, a)
	go delta(a, d, c)
	go successor(c, b)
	warm := count/10 + 1
	for i := 0; i < warm; i++ {
		<-d
	}
	start := time.Now()
	for i := warm; i < warm+count; i++ {
		if <-d != i {
			fmt.Fprintln(os.Stderr, "wrong")
			os.Exit(2)
		}
	}
	fmt.Println(float64(time.Since(start).Nanoseconds()) / float64(count))
}
