// Command conformance makes the calls of a plan and reports what its user would see; see
// tests/conformance/README.md.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: conformance PLAN.json")
	}
	plan, err := readPlan(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	runner := newRunner(plan)
	for _, one := range plan.Cases {
		if err := emit(runner.report(one)); err != nil {
			log.Fatal(err)
		}
	}
}

func emit(report report) error {
	line, err := json.Marshal(report)
	if err == nil {
		_, err = fmt.Println(string(line))
	}
	return err
}
