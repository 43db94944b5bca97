"""Prometheus' own tool for rules, compiled from its released module: go.mod and go.sum beside this file name it to the byte."""
