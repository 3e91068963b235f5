# Few verbs. What each check does stands in .ci/run.

.PHONY: check ci test race sim soak bench proto fmt demo

SEED ?= 1
SEEDS ?= 1
STEPS ?= 2000
FAULTS ?= all

check: ## the gate before a commit
	.ci/run format vet generated rules build staticcheck test

ci: ## the gate before landing, as the landing queue runs it
	.ci/run

test:
	go test ./...

race:
	.ci/run race

sim: ## make sim SEED=42 replays a seed; SEEDS= STEPS= FAULTS=default|all
	go test ./integration/sim -run TestSim -seed $(SEED) -seeds $(SEEDS) -steps $(STEPS) -faults $(FAULTS)

soak: ## the long form: 5,000 seeds
	go test ./integration/sim -run TestSim -seed $(SEED) -seeds 5000 -steps $(STEPS) -faults all -timeout 0

bench:
	go run ./cmd/perdure bench publish

proto: ## regenerate the code of api/
	cd tools && go run ./protogen

fmt:
	gofmt -w $$(find . -name .git -prune -o -name '*.go' -print)

demo:
	go run ./cmd/perdure demo
