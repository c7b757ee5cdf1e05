// Checks that a statement throws seigh::Error with a one-line message that says the right thing.
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>

#include "seigh/core/error.h"

// EXPECT_SEIGH_ERROR(statement, fragment...): the message contains every fragment.
#define EXPECT_SEIGH_ERROR(statement, ...)                                                 \
  try {                                                                                    \
    statement;                                                                             \
    ADD_FAILURE() << "no error from " #statement;                                          \
  } catch (const seigh::Error& error) {                                                    \
    const std::string message = error.what();                                              \
    for (const std::string& fragment : std::initializer_list<std::string>{__VA_ARGS__})    \
      EXPECT_NE(message.find(fragment), std::string::npos) << "message: " << message;      \
    EXPECT_EQ(message.find('\n'), std::string::npos) << "more than one line: " << message; \
  }
