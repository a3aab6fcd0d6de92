package tests

import "fmt"

// An object is one of JSON.
type object map[string]any

// at follows a path of keys; nil if it ends early.
func (o object) at(path ...string) any {
	var value any = map[string]any(o)
	for _, key := range path {
		inner, ok := value.(map[string]any)
		if !ok {
			return nil
		}
		value = inner[key]
	}
	return value
}

// text follows a path of keys to a text; empty if there is none.
func (o object) text(path ...string) string {
	if value := o.at(path...); value != nil {
		return fmt.Sprint(value)
	}
	return ""
}

// list follows a path of keys to a list of objects; nil if there is none.
func (o object) list(path ...string) []object {
	values, _ := o.at(path...).([]any)
	var objects []object
	for _, value := range values {
		if inner, ok := value.(map[string]any); ok {
			objects = append(objects, inner)
		}
	}
	return objects
}

// has reports whether there is such a key, whatever its value.
func (o object) has(key string) bool {
	_, there := o[key]
	return there
}
