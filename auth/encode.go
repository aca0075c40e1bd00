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
)

// add appends a record.
func (f *keysFile) add(r *Record) {
	if f.doc == nil {
		root := &yaml.Node{Kind: yaml.MappingNode}
		f.doc = &yaml.Node{Kind: yaml.DocumentNode, HeadComment: fileHead, Content: []*yaml.Node{root}}
	}
	root := f.doc.Content[0]
	if f.list == nil { // and nothing else either: keys is all that root may hold
		f.list = &yaml.Node{Kind: yaml.SequenceNode}
		setField(root, "keys", f.list)
	}
	root.Style, f.list.Style = 0, 0 // {} and [] become lines
	node := recordNode(r)
	f.list.Content = append(f.list.Content, node)
	f.appendRecord(r, node)
}

// revoke marks record i. Its place in the file stays, so that a list shows
// what became of it.
func (f *keysFile) revoke(i int, now time.Time) {
	r := *f.records[i]
	r.Disabled, r.Revoked = true, now.UTC().Truncate(time.Second)
	f.records[i] = &r
	setField(f.nodes[i], "disabled", boolNode(true))
	setField(f.nodes[i], "revoked", timeNode(r.Revoked))
}

// encode returns the text of the file. It reads its own text again before
// anyone else does: where the operator's comments come out of the YAML library
// as something else, they are given up rather than a key.
func (f *keysFile) encode(path string) ([]byte, error) {
	if data, err := encodeNode(f.doc); err == nil && f.readsBack(path, data) {
		return data, nil
	}
	plain := newKeysFile()
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
	return err == nil && slices.EqualFunc(again.records, f.records, func(a, b *Record) bool { return reflect.DeepEqual(a, b) })
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

func recordNode(r *Record) *yaml.Node {
	node := &yaml.Node{Kind: yaml.MappingNode}
	setField(node, "id", textNode(r.ID))
	setField(node, "name", textNode(r.Name))
	setField(node, "digest", textNode(digestPrefix+hex.EncodeToString(r.Digest[:])))
	setField(node, "tenants", listNode(r.Tenants))
	if len(r.Models) > 0 {
		setField(node, "models", listNode(r.Models))
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
