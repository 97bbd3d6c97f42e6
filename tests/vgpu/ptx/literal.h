// PTX literals and variable declarations, shared by the module and the body parser.
//
// PTX ISA 9.0 section 4.5 (constants) and 5.4 (variables).
#pragma once

#include "ptx/ast.h"
#include "ptx/lexer.h"

namespace vgpu::ptx {

// Reads the number token into an operand (kInt, kFloat32 or kFloat64).
Operand parse_number(const Token& token);

// After a state space directive: [.align N] [.vN] .type name [dims] [= init] {, name ...} ;
// Calls are made with the lexer just past the state space word. Consumes up to, not including,
// the `;`, `,` or `)` when `single`, else through the `;`.
std::vector<Variable> parse_variables(Lexer& lexer, Space space, bool single);

}  // namespace vgpu::ptx
