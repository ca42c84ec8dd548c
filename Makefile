# The commands of this project; "make help" lists them.
.DEFAULT_GOAL := help
.PHONY: help demo demo-down test bench check crds

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  demo takes CLUSTER=current and IMAGE, SCANNER_IMAGE, POSTGRES_IMAGE, EMULATOR_IMAGE;"
	@echo "  test takes FLOORS=\"pure database apiserver cluster\"."

demo: ## A cluster, the operator and two accounts scanned by real Prowler
	@hack/demo up

demo-down: ## Remove the demo, and its cluster if it is ours
	@hack/demo down

test: ## All tests, floor by floor, with times
	@hack/test $(FLOORS)

bench: ## The benchmarks; results are in docs/performance.md
	@hack/bench

check: ## Format, lints, licences, generated files
	@hack/check

crds: ## Write the custom resource definitions anew, here and in the chart
	@hack/crds
