package org.siglip.conformance;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonObject;
import io.grpc.StatusRuntimeException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import org.siglip.client.Failure;

/** Makes the calls of a plan and reports what its user would see; see tests/conformance/README.md. */
public final class Conformance {
  private static final Gson GSON = new GsonBuilder().serializeNulls().disableHtmlEscaping().create();

  private Conformance() {}

  public static void main(String[] arguments) throws IOException {
    Plan plan = Plan.read(Path.of(arguments[0]));
    try (Endpoints endpoints = new Endpoints(plan)) {
      Calls calls = new Calls(plan);
      for (JsonObject one : plan.cases()) {
        emit(report(endpoints, calls, one));
      }
    }
    System.exit(0); // gRPC's threads may still be ending
  }

  /** One line; at once, as the runner acts upon it. */
  static void emit(JsonObject line) {
    byte[] text = (GSON.toJson(line) + "\n").getBytes(StandardCharsets.UTF_8);
    System.out.write(text, 0, text.length);
    System.out.flush();
  }

  private static JsonObject report(Endpoints endpoints, Calls calls, JsonObject one) {
    JsonObject report = new JsonObject();
    report.addProperty("case", one.get("name").getAsString());
    try {
      calls.make(endpoints.siglip(one), one, report);
      report.addProperty("code", "OK");
    } catch (StatusRuntimeException failed) {
      Reports.failure(Failure.of(failed), report);
    } catch (IOException | RuntimeException failed) {
      report.addProperty("code", "UNKNOWN");
      report.addProperty("message", failed.toString());
    }
    return report;
  }
}
