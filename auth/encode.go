package auth

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"streamrelay/auth/limits"
)

// root returns the mapping of the document, which is made where there is none.
func (f *keysFile) root() *yaml.Node {
	if f.doc == nil {
		root := &yaml.Node{Kind: yaml.MappingNode}
		f.doc = &yaml.Node{Kind: yaml.DocumentNode, HeadComment: fileHead, Content: []*yaml.Node{root}}
	}
	return f.doc.Content[0]
}

// add appends a record.
func (f *keysFile) add(r *Record) {
	root := f.root()
	if f.list == nil {
		f.list = &yaml.Node{Kind: yaml.SequenceNode}
		setField(root, "keys", f.list)
	}
	root.Style, f.list.Style = 0, 0 // {} and [] become lines
	node := recordNode(r, f.peppered)
	f.list.Content = append(f.list.Content, node)
	f.appendRecord(r, node)
}

// set gives record i the values of r, which has its id and digest. Its place in
// the file stays, and what did not change keeps the operator's comments.
func (f *keysFile) set(i int, r *Record) {
	old := f.records[i]
	before, after := recordNode(old, f.peppered), recordNode(r, f.peppered)
	for j := 0; j+1 < len(after.Content); j += 2 {
		name, value := after.Content[j].Value, after.Content[j+1]
		if was := fieldOf(before, name); was == nil || !reflect.DeepEqual(was, value) {
			setField(f.nodes[i], name, value)
		}
	}
	for j := 0; j+1 < len(before.Content); j += 2 {
		if name := before.Content[j].Value; fieldOf(after, name) == nil {
			dropField(f.nodes[i], name)
		}
	}
	delete(f.names, old.Name)
	f.names[r.Name] = i
	f.records[i] = r
}

// setTenant gives a tenant the limits of t; nil takes it out.
func (f *keysFile) setTenant(name string, t *Tenant) (was bool) {
	i := slices.IndexFunc(f.tenants, func(t *Tenant) bool { return t.Name == name })
	root := f.root()
	section := fieldOf(root, "tenants")
	if section == nil || section.Kind != yaml.MappingNode {
		section = &yaml.Node{Kind: yaml.MappingNode}
		setField(root, "tenants", section)
	}
	root.Style, section.Style = 0, 0
	switch {
	case t == nil && i < 0:
		return false
	case t == nil:
		f.tenants = slices.Delete(f.tenants, i, i+1)
		dropField(section, name)
		return true
	case i < 0:
		f.tenants = append(f.tenants, t)
	default:
		f.tenants[i] = t
	}
	setField(section, name, tenantNode(t))
	return i >= 0
}

func tenantNode(t *Tenant) *yaml.Node {
	node := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
	setField(node, "limits", limitsNode(t.Limits))
	return node
}

// encode returns the text of the file. It reads its own text again before
// anyone else does: where the operator's comments come out of the YAML library
// as something else, they are given up rather than a key.
func (f *keysFile) encode(path string) ([]byte, error) {
	if data, err := encodeNode(f.doc); err == nil && f.readsBack(path, data) {
		return data, nil
	}
	plain := newKeysFile()
	plain.peppered = f.peppered
	for _, t := range f.tenants {
		plain.setTenant(t.Name, t)
	}
	for _, r := range f.records {
		plain.add(r)
	}
	data, err := encodeNode(plain.doc)
	if err != nil {
		return nil, fmt.Errorf("write keys file %q: %w", path, err)
	}
	if !f.readsBack(path, data) {
		return nil, fmt.Errorf("BUG: keys file %q would not read back as it was written", path)
	}
	return data, nil
}

func (f *keysFile) readsBack(path string, data []byte) bool {
	again, err := parseKeys(path, data)
	return err == nil && slices.EqualFunc(again.records, f.records, func(a, b *Record) bool { return reflect.DeepEqual(a, b) }) &&
		slices.EqualFunc(again.tenants, f.tenants, func(a, b *Tenant) bool { return *a == *b })
}

func encodeNode(doc *yaml.Node) (data []byte, err error) {
	defer func() { // the library panics on what it cannot write
		if p := recover(); p != nil {
			err = fmt.Errorf("encode: %v", p)
		}
	}()
	var b bytes.Buffer
	encoder := yaml.NewEncoder(&b)
	encoder.SetIndent(2)
	if err := encoder.Encode(doc); err != nil {
		return nil, err
	}
	if err := encoder.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func limitsNode(l limits.Limits) *yaml.Node {
	node := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
	for _, f := range limits.Fields() {
		if text := f.Get(&l); text != "" {
			setField(node, f.Name, &yaml.Node{Kind: yaml.ScalarNode, Value: text})
		}
	}
	return node
}

func recordNode(r *Record, peppered bool) *yaml.Node {
	node := &yaml.Node{Kind: yaml.MappingNode}
	setField(node, "id", textNode(r.ID))
	setField(node, "name", textNode(r.Name))
	prefix := digestPrefix
	if peppered {
		prefix = pepperedPrefix
	}
	setField(node, "digest", textNode(prefix+hex.EncodeToString(r.Digest[:])))
	setField(node, "tenants", listNode(r.Tenants))
	if len(r.Models) > 0 {
		setField(node, "models", listNode(r.Models))
	}
	if len(r.Paths) > 0 {
		setField(node, "paths", listNode(r.Paths))
	}
	if r.Limits != (limits.Limits{}) {
		setField(node, "limits", limitsNode(r.Limits))
	}
	if !r.Created.IsZero() {
		setField(node, "created", timeNode(r.Created))
	}
	if !r.Expires.IsZero() {
		setField(node, "expires", timeNode(r.Expires))
	}
	if r.Disabled {
		setField(node, "disabled", boolNode(true))
	}
	if !r.Revoked.IsZero() {
		setField(node, "revoked", timeNode(r.Revoked))
	}
	if r.Metadata != nil {
		metadata := &yaml.Node{Kind: yaml.MappingNode}
		for _, name := range slices.Sorted(maps.Keys(r.Metadata)) {
			setField(metadata, name, textNode(r.Metadata[name]))
		}
		setField(node, "metadata", metadata)
	}
	return node
}

// setField gives key the value in a mapping, at its end if it is new.
func setField(mapping *yaml.Node, key string, value *yaml.Node) {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			value.LineComment = mapping.Content[i+1].LineComment
			mapping.Content[i+1] = value
			return
		}
	}
	mapping.Content = append(mapping.Content, textNode(key), value)
}

func fieldOf(mapping *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}

func dropField(mapping *yaml.Node, key string) {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			mapping.Content = slices.Delete(mapping.Content, i, i+2)
			return
		}
	}
}

func textNode(s string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
}

func boolNode(b bool) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: fmt.Sprint(b)}
}

func timeNode(t time.Time) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!timestamp", Value: t.UTC().Format(time.RFC3339Nano)}
}

func listNode(list []string) *yaml.Node {
	node := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for _, s := range list {
		node.Content = append(node.Content, textNode(s))
	}
	return node
}
