// Package kwok pins the versions of development tools: see the tool directive in
// go.mod, and hack/tools/build, which compiles them.
package kwok
